"""The data, and the model: gradient boosting with LightGBM."""

import functools
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.model_selection import GroupShuffleSplit

ID = "id"
TARGET = "body_mass_g"
GROUP = "individual_id"  # rows of one group are never on both sides of a split
NOT_FEATURES = [ID, TARGET, GROUP, "studyname", "sample_number", "comments"]
OBJECTIVE = {"objective": "regression", "metric": "rmse"}  # the metric of early stopping

TEST_SEED = 0  # the test set is the same in every run


@functools.cache
def load_data() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows to train on, and the rows to predict: penguins that were measured from 2007 to 2010.

    With files of your own: pd.read_csv(expkit.input_dir() / "train.csv", dtype={ID: str}), and test.csv.
    """
    rows = pd.read_csv(files("palmerpenguins") / "data/penguins-raw.csv")
    rows = rows.rename(columns=lambda name: re.sub(r"\W+", "_", name.lower()).strip("_"))
    rows = rows[rows[TARGET].notna()].reset_index(drop=True)
    rows[ID] = rows["studyname"] + "-" + rows["species"].str[:3] + "-" + rows["sample_number"].astype(str)
    rows["date_egg"] = pd.to_datetime(rows["date_egg"]).dt.dayofyear
    parts = GroupShuffleSplit(1, test_size=0.2, random_state=TEST_SEED).split(rows, groups=rows[GROUP])
    train_rows, test_rows = next(parts)
    return with_categories(rows.iloc[train_rows], rows.iloc[test_rows].drop(columns=TARGET))


def with_categories(train: pd.DataFrame, test: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both, with text columns as categories, the same in both, for LightGBM; what is missing stays missing."""
    train, test = train.copy(), test.copy()
    for column in features(train):
        if not pd.api.types.is_numeric_dtype(train[column]):
            names = pd.concat([train[column], test[column]]).dropna().unique()
            for rows in (train, test):
                rows[column] = pd.Categorical(rows[column], sorted(names))
    return train, test


class Booster:
    """Gradient-boosted trees. The same seed, machine and number of threads give the same bytes.

    There is no checkpoint: LightGBM draws other rows and columns when it goes on from stored trees (`init_model`).
    """

    def __init__(self, config: Any, seed: int) -> None:
        """
        Args:
            config: exp.train of the configuration.
        """
        self.config, self.seed = config, seed
        self.rounds = 0  # trees that predict
        self._booster: Any = None  # of lightgbm; it predicts with its best rounds

    def fit(
        self, rows: pd.DataFrame, log: Callable[[dict[str, float]], Any], every: int, rounds: int | None = None
    ) -> None:
        """Train until the error on watched rows has not fallen for a while; the trees up to the best round predict.

        The watched rows are some of `rows`, whole groups of them.

        Args:
            rows: to train on, with all columns of `load_data`.
            log: takes the errors after each `every` rounds.
            rounds: train for so many, on all of `rows`; none are watched.
        """
        config, watched = self.config, None
        if rounds is None:
            parts = GroupShuffleSplit(1, test_size=config.watched, random_state=self.seed)
            rows, watched = (rows.iloc[part] for part in next(parts.split(rows, groups=rows[GROUP])))
        data = lightgbm.Dataset(features(rows), rows[TARGET])
        sets, stopping = {"train": data}, []
        if watched is not None:
            sets["watched"] = data.create_valid(features(watched), watched[TARGET])
            stopping = [lightgbm.early_stopping(config.early_stopping, verbose=False)]

        def log_errors(state: Any) -> None:
            done, errors = state.iteration + 1, state.evaluation_result_list
            if done % every == 0:
                log({"step": done} | {f"{name}_{metric}": error for name, metric, error, *_ in errors})

        self._booster = lightgbm.train(
            OBJECTIVE
            | {
                "learning_rate": config.learning_rate,
                "num_leaves": config.num_leaves,
                "min_data_in_leaf": config.min_data_in_leaf,
                "feature_fraction": config.feature_fraction,
                "bagging_fraction": config.bagging_fraction,
                "bagging_freq": 1,
                "lambda_l2": config.lambda_l2,
                "num_threads": config.num_threads,
                "seed": self.seed,
                "deterministic": True,
                "force_row_wise": True,
                "verbosity": -1,
            },
            data,
            rounds or config.most_rounds,
            valid_sets=[*sets.values()],
            valid_names=[*sets],
            callbacks=[*stopping, log_errors],
        )
        self.rounds = rounds or self._booster.best_iteration

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        """The prediction for each of the rows, (n,) float."""
        return np.asarray(self._booster.predict(features(rows)))

    def save(self, file: Path) -> None:
        """Write the trees that predict, as LightGBM's text, for `load`."""
        self._booster.save_model(file)

    def save_importance(self, folder: Path) -> None:
        """Write how much each column has lowered the error: importance.csv, and a picture, importance.png."""
        gain = self._booster.feature_importance("gain")
        table = pd.DataFrame({"column": self._booster.feature_name(), "gain": gain})
        table = table.sort_values("gain", ascending=False, ignore_index=True)
        table.to_csv(folder / "importance.csv", index=False)
        figure = Figure(figsize=(7, 0.3 * len(table) + 1), layout="constrained")
        axis = figure.subplots()
        axis.barh(table["column"], table["gain"])
        axis.invert_yaxis()
        axis.set(xlabel="gain")
        figure.savefig(folder / "importance.png")


class Model:
    """Trees that have been stored."""

    def __init__(self, booster: lightgbm.Booster) -> None:
        self.booster = booster

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        """The prediction for each of the rows, which have the columns of `load_data`, (n,) float."""
        return np.asarray(self.booster.predict(features(rows)))


def load(file: Path) -> Model:
    """The model that `Booster.save` wrote."""
    return Model(lightgbm.Booster(model_file=file))


def features(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns that the model sees."""
    return rows.drop(columns=NOT_FEATURES, errors="ignore")
