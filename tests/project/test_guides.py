"""The guides in docs/, followed word by word in a rendered project."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy
import pandas
import pytest
from conftest import ROOT, Project, call, clone_of, own_copy
from documents import all_blocks, follow
from PIL import Image

pytestmark = pytest.mark.slow
GUIDE = (ROOT / "docs/your-own-data.md").read_text()


def write(folder: Path, target: str) -> None:
    """The files of a competition: text ids, groups, dates, numbers and texts of which some are missing; a target."""
    folder.mkdir(parents=True)
    dice, number = numpy.random.default_rng(0), numpy.arange(480)
    area, rooms = dice.normal(100, 30, 480).round(1), dice.integers(1, 8, 480)
    heating = dice.choice(["gas", "oil", "heat pump", ""], 480)
    price = (1000 * area + 20_000 * rooms + 15_000 * (heating == "heat pump") + dice.normal(0, 10_000, 480)).round(2)
    targets = {
        "price": price,
        "is_sold": (price + dice.normal(0, 10_000, 480) < 180_000).astype(int),
        "kind": numpy.select([price > 220_000, price > 150_000], ["castle", "flat"], "hut"),
    }
    table = pandas.DataFrame(
        {"house": [f"{each:05d}" for each in number], "street": [f"street {n // 4}" for n in number]}
    )
    table["sold"] = [f"{year}-{month:02d}-07" for year, month in dice.integers([2015, 1], [2026, 13], (480, 2))]
    table["area"] = numpy.where(dice.random(480) < 0.1, numpy.nan, area)
    table = table.assign(rooms=rooms, heating=heating, **{target: targets[target]})
    train, test = table[:400], table[400:]
    train.to_csv(folder / "train.csv", index=False)
    test.drop(columns=target).to_csv(folder / "test.csv", index=False)
    sample = test[["house"]].assign(**{target: table[target][0]})
    sample.to_csv(folder / "sample_submission.csv", index=False)


def make_harder(folder: Path) -> None:
    """More columns: texts that differ in each row, and texts that are numbers or missing in the rows to predict."""
    for name in ("train.csv", "test.csv"):
        rows, is_train = pandas.read_csv(folder / name, dtype={"house": str}), name == "train.csv"
        rows["owner"] = [f"owner {number}" for number in range(len(rows))]
        rows["permit"] = ["12", "A7" if is_train else "13"] * (len(rows) // 2)
        rows["note"] = ["sunny" if is_train else None, None] * (len(rows) // 2)
        rows["nothing"] = None
        rows.loc[0, "rooms"] = rows.loc[0, "rooms"] if is_train else None
        rows.to_csv(folder / name, index=False)


def follow_part(part: str, made: Project, python: Path, folds: str = "[0,1,2,3,4]", **variables: str) -> str:
    """Do what stands below a heading, with the programs beside a Python; what the commands printed."""
    [section] = re.findall(rf"^## {part}\n(.*?)(?=^## |\Z)", GUIDE, flags=re.M | re.S)
    environment = made.environment(WANDB_MODE="disabled", COLUMNS="100", **variables)
    environment["PATH"] = f"{python.parent}:{environment['PATH']}"
    section = re.sub(r"uv add .*|uv run ", "", section).replace("[0,1,2,3,4]", folds)
    return follow(all_blocks(section), made.folder, environment)


@pytest.fixture(scope="module")
def shop(boosting: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of one's own with three competitions in input/. The tests below follow the page in its order."""
    made = own_copy(boosting, tmp_path_factory.mktemp("guide") / "myproj")
    for folder, target in (("houses", "price"), ("offers", "is_sold"), ("kinds", "kind")):
        write(made.folder / "input" / folder, target)
    make_harder(made.folder / "input/kinds")
    make_harder(made.folder / "input/houses")
    return made


def score_in(printed: str) -> float:
    """The last CV score."""
    return float(re.findall(r"CV \w+ ([\d.]+) ± .* 5/5 folds", printed)[-1])


def submitted(shop: Project, pattern: str, count: int) -> None:
    """There are as many submissions, each with every id as it was."""
    expected = pandas.read_csv(shop.folder / "input/houses/sample_submission.csv", dtype=str)["house"].tolist()
    found = [pandas.read_csv(file, dtype=str) for file in shop.folder.glob(pattern)]
    assert len(found) == count and expected[0] == "00400"
    assert all(rows["house"].tolist() == expected for rows in found)


def printed_by(shop: Project, experiment: str, code: str, before: str = "pass") -> str:
    """What code prints beside the model.py of an experiment."""
    there = shop.environment(PYTHONPATH=str(shop.folder / "experiments" / experiment))
    source = f"{before}; import model; {code}"
    return call(shop.python, "-W", "ignore", "-c", source, cwd=shop.folder, env=there).stdout.strip()


def test_one_file(shop: Project) -> None:
    """From one file to the board."""
    sample, test = (shop.folder / "input/houses" / name for name in ("sample_submission.csv", "test.csv"))
    kept = [file.rename(shop.folder / file.name) for file in (sample, test)]
    printed = follow_part("One file", shop, shop.python)
    assert score_in(printed) < 25_000, "the mean of the prices alone gives about 52,000"
    assert "002-houses/houses,exp.train.learning_rate=0.05" in printed
    assert printed_by(shop, "002-houses", "print(model.load_data().X.sold.dtype)") == "int32", "a year is a number"
    for file in kept:
        file.rename(shop.folder / "input/houses" / file.name)


def predicted_as_at_kaggle(shop: Project, run: str) -> None:
    """`load`, `predict` and `load_data` of model.py give what `exp submit` has written."""
    source = f"from expkit.kaggle import write_submission; write_submission({run!r}, 'again.csv')"
    call(shop.python, "-c", source, cwd=shop.folder, env=shop.environment())
    [file] = shop.folder.glob(f"output/submissions/{run.replace('/', '_')}*.csv")
    assert (shop.folder / "again.csv").read_text() == file.read_text()


def test_a_test_set(shop: Project) -> None:
    follow_part("A test set", shop, shop.python)
    for is_new in (True, False):  # texts as pandas 3 has them, and as pandas 2
        option = f"import pandas; pandas.options.future.infer_string = {is_new}"
        code = "d = model.load_data(); X = d.X; print(*[each.note.isna().mean() for each in (X, d.test_X)]"
        code += ", *X.note.cat.categories)"
        assert printed_by(shop, "002-houses", code, option) == "0.5 1.0 sunny", "what is missing stays missing"
    submitted(shop, "output/submissions/*.csv", 1)
    predicted_as_at_kaggle(shop, "002-houses/houses")
    submitted(shop, "output/002-houses/*/full/submission.csv", 1)


def test_several_classes(shop: Project) -> None:
    assert score_in(follow_part("Several classes", shop, shop.python)) > 0.8
    submitted(shop, "output/submissions/*kinds*.csv", 1)
    assert "method: stratified" in (shop.folder / "output/003-kinds/kinds/config.yaml").read_text()
    predicted_as_at_kaggle(shop, "003-kinds/kinds")
    fit = "data = model.load_data(); two = data.y != 'castle'; trees = model.Trees().fit(data.X[two], data.y[two])"
    show = "found = model.predict(trees, data.X[:9]); print(list(found), found['probability_castle'].tolist())"
    names = ["prediction", "probability_castle", "probability_flat", "probability_hut"]
    assert printed_by(shop, "003-kinds", f"{fit}; {show}") == f"{names} {[0.0] * 9}", "a class that it has not seen"


def test_lightgbm(shop: Project) -> None:
    """With groups; then without."""
    assert score_in(follow_part("LightGBM", shop, shop.python)) < 40_000
    submitted(shop, "output/004-trees/*/full/submission.csv", 1)
    folder = shop.folder / "experiments/004-trees"
    for name, old, new in (
        ("model.py", 'GROUP = "street"', "GROUP = ID"),
        ("config.yaml", "method: group", "method: kfold"),
    ):
        assert old in (folder / name).read_text()
        (folder / name).write_text((folder / name).read_text().replace(old, new))
    run = "python experiments/004-trees/train.py exp.name=alone exp.fold=null"
    environment = shop.environment(WANDB_MODE="disabled") | {"PATH": f"{shop.python.parent}:/usr/bin:/bin"}
    assert score_in(follow([("bash", run)], shop.folder, environment)) < 40_000


def test_yes_or_no(shop: Project) -> None:
    assert score_in(follow_part("Yes or no", shop, shop.python)) > 0.9
    call("ruff", "check", "--no-cache", "--ignore=F401,I001", cwd=shop.folder / "experiments")


MISTAKES: list[tuple[str, str, Callable[[pandas.DataFrame], pandas.DataFrame], list[str]]] = [
    ("train.csv has no column", "houses", lambda rows: rows.rename(columns={"price": "prize"}), []),
    ("of 400 rows of target are nan or inf", "houses", lambda rows: with_value(rows, "price", None), []),
    ("of 400 rows of target are nan or inf", "houses", lambda rows: with_value(rows, "price", "12,000"), []),
    ("but not ['n.a.']", "houses", lambda rows: with_value(rows, "rooms", "n.a."), []),
    ("train.csv has no column", "houses", lambda rows: rows.drop(columns="sold"), []),
    ("holds float, str: one type per column", "kinds", lambda rows: with_value(rows, "kind", None), []),
    ("which CLASSES in model.py does not have", "kinds", lambda rows: with_value(rows, "kind", "tent"), []),
    ("1 ids are there more than once, such as 00007", "houses", lambda rows: with_value(rows, "house", "00007"), []),
    ("Supported target types are:", "houses", lambda rows: rows, ["exp.split.method=stratified"]),
    ("did you mean exp.train.learning_rate?", "houses", lambda rows: rows, ["learning_rate=1"]),
]


def with_value(rows: pandas.DataFrame, column: str, value: str | None) -> pandas.DataFrame:
    """A table with another value in its first row."""
    return rows.assign(**{column: [value, *rows[column][1:]]})


def test_mistakes(shop: Project) -> None:
    """What a beginner gets wrong is one line, which the page has."""
    numbers = {"houses": "002", "kinds": "003"}
    for text, name, edit, arguments in MISTAKES:
        file = shop.folder / "input" / name / "train.csv"
        before = file.read_text()
        edit(pandas.read_csv(file, dtype=str)).to_csv(file, index=False)
        experiment = f"{numbers[name]}-{name}"
        done = shop.train("exp.debug=true", *arguments, experiment=experiment, check=False, WANDB_MODE="disabled")
        file.write_text(before)
        [line] = done.stderr.splitlines()
        assert done.returncode > 0 and text in line and text in GUIDE, (text, done)


REMEDIES: list[tuple[str, Callable[[pandas.DataFrame], pandas.DataFrame], dict[str, str], str]] = [
    ("has no column house; it has house;", lambda rows: rows, {"sep": ";"}, 'sep=";"'),
    (
        "UnicodeDecodeError: 'utf-8' codec can't decode byte 0x93",
        lambda rows: with_value(rows, "heating", "灯油"),
        {"encoding": "cp932"},
        'encoding="cp932"',
    ),
    ("but not ['n.a.']", lambda rows: with_value(rows, "rooms", "n.a."), {}, 'na_values=["n.a."]'),
    ("rows of target are nan or inf", lambda rows: with_value(rows, "price", "12,000"), {}, 'thousands=","'),
    ("rows of target are nan or inf", lambda rows: with_value(rows, "price", None), {}, "rows = rows.dropna("),
]


@pytest.mark.parametrize(("text", "edit", "options", "remedy"), REMEDIES)
def test_remedies(
    shop: Project,
    text: str,
    edit: Callable[[pandas.DataFrame], pandas.DataFrame],
    options: dict[str, str],
    remedy: str,
) -> None:
    """A table that is refused trains with what the page says: one more argument of read_csv, or one more line."""
    folder, code = shop.folder / "input/houses", shop.folder / "experiments/002-houses/model.py"
    before = {file: file.read_text() for file in (folder / "train.csv", folder / "test.csv", code)}
    for name, change in (("train.csv", edit), ("test.csv", lambda rows: rows)):
        change(pandas.read_csv(folder / name, dtype=str)).to_csv(folder / name, index=False, **options)
    refused = shop.train("exp.debug=true", experiment="002-houses", check=False, WANDB_MODE="disabled")
    line = re.search(rf"`({re.escape(remedy)}.*?)`|read_csv\(\.\.\., ({re.escape(remedy)})\)", GUIDE)
    assert line
    place = 'rows = read("train.csv", [ID, TARGET])' if line[1] else "read_csv(file"
    code.write_text(before[code].replace(place, f"{place}\n    {line[1]}" if line[1] else f"{place}, {line[2]}"))
    trained = shop.train("exp.debug=true", experiment="002-houses", check=False, WANDB_MODE="disabled")
    for file, content in before.items():
        file.write_text(content)
    assert refused.returncode > 0 and text in refused.stderr and text in GUIDE, refused
    assert trained.returncode == 0, trained


TEST_MISTAKES: list[tuple[str, Callable[[pandas.DataFrame], pandas.DataFrame] | None]] = [
    ("there is no input/houses/test.csv", None),
    ("test.csv has no column ", lambda rows: rows.drop(columns="area")),
    ("could not convert string to float: 'none'", lambda rows: with_value(rows, "area", "none")),
]


@pytest.mark.parametrize(("text", "edit"), TEST_MISTAKES, ids=["missing", "column", "type"])
def test_mistakes_in_the_rows_to_predict(
    shop: Project, text: str, edit: Callable[[pandas.DataFrame], pandas.DataFrame] | None
) -> None:
    """They are said before the training."""
    file = shop.folder / "input/houses/test.csv"
    before = file.read_text()
    file.unlink()
    if edit is not None:
        edit(pandas.read_csv(io.StringIO(before), dtype=str)).to_csv(file, index=False)
    done = shop.train("exp.debug=true", experiment="002-houses", check=False, WANDB_MODE="disabled")
    file.write_text(before)
    assert done.returncode > 0 and text in done.stderr and text in GUIDE, done


BIRDS = {"crow": (0, 0, 0), "gull": (255, 215, 0), "owl": (165, 42, 42)}


def draw(folder: Path) -> None:
    """Birds: pictures of several sizes, with a patch in the colour of the class; and the pictures to predict."""
    dice = numpy.random.default_rng(0)
    (folder / "test").mkdir(parents=True)
    for name, color in BIRDS.items():
        (folder / "train" / name).mkdir(parents=True)
        for number in range(40):
            size = int(dice.integers(30, 60))
            pixels = dice.integers(80, 180, (size, size, 3), dtype=numpy.uint8)
            x, y = dice.integers(0, size // 2, 2)
            pixels[y : y + size // 3, x : x + size // 3] = color
            place = f"train/{name}/{number:04d}" if number < 30 else f"test/{name}{number}"
            Image.fromarray(pixels).save(folder / f"{place}.png")
    ids = sorted(file.name for file in (folder / "test").iterdir())
    (folder / "sample_submission.csv").write_text("id,bird\n" + "".join(f"{each},crow\n" for each in ids))


def test_pictures_in_folders(network: Project, tmp_path: Path) -> None:
    """Followed in a project that has PyTorch; the submission names the birds, and most of them rightly."""
    made = Project(clone_of(network.folder, tmp_path / "myproj"), network.home)
    shutil.copytree(made.folder / "experiments/001-baseline", made.folder / "experiments/005-before")
    draw(made.folder / "input/birds")
    here = {"EXPKIT_ROOT": str(made.folder), "PYTHONPATH": str(made.folder / "src")}
    printed = follow_part("Pictures in folders", made, network.python, "[0,1]", **here)
    score = re.search(r"CV accuracy ([\d.]+)", printed)
    assert score and float(score[1]) > 0.8, printed
    [submission] = made.folder.glob("output/006-birds/*/full/submission.csv")
    rows = pandas.read_csv(submission)
    right = [picture.startswith(bird) for picture, bird in zip(rows["id"], rows["bird"], strict=True)]
    assert len(right) == 30 and sum(right) > 24, rows
