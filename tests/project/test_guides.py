"""The guides in docs/, followed word by word in a rendered project."""

from __future__ import annotations

import re
import shutil
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


def follow_part(part: str, made: Project, python: Path, folds: str = "[0,1,2,3,4]", **variables: str) -> str:
    """Do what stands below a heading, with the programs beside a Python; what the commands printed."""
    [section] = re.findall(rf"^## {part}\n(.*?)(?=^## |\Z)", GUIDE, flags=re.M | re.S)
    environment = made.environment(WANDB_MODE="disabled", COLUMNS="100", **variables)
    environment["PATH"] = f"{python.parent}:{environment['PATH']}"
    section = re.sub(r"uv add .*|uv run ", "", section).replace("[0,1,2,3,4]", folds)
    return follow(all_blocks(section), made.folder, environment)


@pytest.fixture(scope="module")
def shop(boosting: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of one's own with three competitions in input/."""
    made = own_copy(boosting, tmp_path_factory.mktemp("guide") / "myproj")
    for folder, target in (("houses", "price"), ("offers", "is_sold"), ("kinds", "kind")):
        write(made.folder / "input" / folder, target)
    return made


def test_a_table(shop: Project) -> None:
    """A score, the board, two submissions with every id as it was, of at most 30 changed lines; lint-clean."""
    printed = follow_part("A table", shop, shop.python)
    assert "5/5 folds" in printed and "002-houses/houses" in printed
    made, baseline = (shop.folder / "experiments" / name for name in ("002-houses", "001-baseline"))
    changed = []
    for name in ("train.py", "model.py", "config.yaml"):
        old = (baseline / name).read_text().splitlines()
        changed += [line for line in (made / name).read_text().splitlines() if line not in old]
    assert len(changed) <= 30, changed
    call("ruff", "check", "--no-cache", cwd=made)
    expected = pandas.read_csv(shop.folder / "input/houses/sample_submission.csv", dtype=str)["house"].tolist()
    submissions = [*shop.folder.glob("output/submissions/*.csv"), *shop.folder.glob("output/*/*/full/submission.csv")]
    assert len(submissions) == 2 and expected[0] == "00400"
    assert all(pandas.read_csv(file, dtype=str)["house"].tolist() == expected for file in submissions)
    score = re.search(r"CV rmse ([\d.]+)", printed)
    assert score and float(score[1]) < 40_000, "the mean of the prices alone gives about 52,000"


@pytest.mark.parametrize(("part", "least"), [("Yes or no", 0.9), ("Several classes", 0.8)])
def test_other_targets(shop: Project, part: str, least: float) -> None:
    printed = follow_part(part, shop, shop.python)
    score = re.search(r"CV \w+ ([\d.]+)", printed)
    assert score and float(score[1]) > least, printed


def test_other_rows(shop: Project) -> None:
    """After "A table": two models predict the test set, and not the same."""
    folds, full = follow_part("Predict other rows", shop, shop.python).splitlines()[-2:]
    assert folds != full and all(len(re.findall(r"\d{5,}\.\d+", line)) == 3 for line in (folds, full))


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
    shutil.copytree(made.folder / "experiments/001-baseline", made.folder / "experiments/004-before")
    draw(made.folder / "input/birds")
    here = {"EXPKIT_ROOT": str(made.folder), "PYTHONPATH": str(made.folder / "src")}
    printed = follow_part("Pictures in folders", made, network.python, "[0,1]", **here)
    score = re.search(r"CV accuracy ([\d.]+)", printed)
    assert score and float(score[1]) > 0.8, printed
    [submission] = made.folder.glob("output/005-birds/*/full/submission.csv")
    rows = pandas.read_csv(submission)
    right = [picture.startswith(bird) for picture, bird in zip(rows["id"], rows["bird"], strict=True)]
    assert len(right) == 30 and sum(right) > 24, rows
