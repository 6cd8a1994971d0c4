"""The data, and gradient boosting with LightGBM."""

import re
from importlib.resources import files

import lightgbm
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.model_selection import GroupShuffleSplit

ID, TARGET = "id", "body_mass_g"
GROUP = "individual_id"  # rows of one group are never on both sides of a split; ID: there are no groups
NOT_FEATURES = [ID, TARGET, GROUP, "studyname", "sample_number", "comments"]
OBJECTIVE = {"objective": "regression", "metric": "rmse"}  # the metric of early stopping
NOT_LIGHTGBMS = ["most_rounds", "early_stopping", "watched"]  # of exp.train: not parameters of LightGBM


def load_data() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows to train on, and the rows to predict: penguins that were measured from 2007 to 2010."""
    rows = pd.read_csv(files("palmerpenguins") / "data/penguins-raw.csv")
    rows = rows.rename(columns=lambda name: re.sub(r"\W+", "_", name.lower()).strip("_"))
    rows = rows[rows[TARGET].notna()].reset_index(drop=True)
    rows[ID] = rows["studyname"] + "-" + rows["species"].str[:3] + "-" + rows["sample_number"].astype(str)
    rows["date_egg"] = pd.to_datetime(rows["date_egg"]).dt.dayofyear
    for column in features(rows).select_dtypes(exclude="number"):
        rows[column] = rows[column].astype("category")  # what is missing stays missing
    train, test = separate(rows, share=0.2, seed=0)
    return rows.iloc[train], rows.iloc[test].drop(columns=TARGET)


def load_test() -> tuple[pd.Series, pd.DataFrame]:
    """The ids and the rows to predict, for a notebook on Kaggle."""
    _, test = load_data()
    return test[ID], test


def features(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns that the model sees."""
    return rows.drop(columns=NOT_FEATURES, errors="ignore")


def separate(rows: pd.DataFrame, share: float, seed: int):
    """The indices of most rows, and those of a share of them, at random; a group is whole on one side."""
    return next(GroupShuffleSplit(1, test_size=share, random_state=seed).split(rows, groups=rows[GROUP]))


def fit(config, rows: pd.DataFrame, seed: int, rounds: int | None, log) -> lightgbm.Booster:
    """Train for so many rounds on all rows; None: until the error on a share of them, only watched, falls no more."""
    parts = [np.arange(len(rows))] if rounds else separate(rows, config.watched, seed)
    stopping = [] if rounds else [lightgbm.early_stopping(config.early_stopping, verbose=False)]
    sets = [lightgbm.Dataset(features(rows.iloc[part]), rows[TARGET].iloc[part]) for part in parts]
    own = {name: value for name, value in vars(config).items() if name not in NOT_LIGHTGBMS}
    fixed = {"seed": seed, "bagging_freq": 1, "deterministic": True, "force_row_wise": True, "verbosity": -1}

    def log_errors(state):  # of every tenth round
        if (step := state.iteration + 1) % 10 == 0:
            log(step=step, **{f"{part}_{name}": error for part, name, error, *_ in state.evaluation_result_list})

    names, count = ["train", "watched"][: len(sets)], rounds or config.most_rounds
    settings = OBJECTIVE | own | fixed
    return lightgbm.train(settings, sets[0], count, sets, valid_names=names, callbacks=[*stopping, log_errors])


def predict(trees: lightgbm.Booster, rows: pd.DataFrame):
    """The prediction for each of the rows, (n,) float."""
    return trees.predict(features(rows))


def save_importance(trees: lightgbm.Booster, file) -> None:
    """A picture of how much each column has lowered the error."""
    axes = Figure(figsize=(7, 6), layout="constrained").subplots()
    lightgbm.plot_importance(trees, axes, importance_type="gain").figure.savefig(file)


def load(file) -> lightgbm.Booster:
    """What `Booster.save_model` wrote."""
    return lightgbm.Booster(model_file=file)
