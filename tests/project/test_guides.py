"""The guides in docs/, followed word by word in a rendered project."""

from __future__ import annotations

import csv
import difflib
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Project, call, commit_all, own_copy
from documents import all_blocks, put
from PIL import Image, ImageDraw

from expkit import store

pytestmark = pytest.mark.slow
GUIDE = (ROOT / "docs/your-own-data.md").read_text()


def houses(count: int, first: int = 0) -> list[dict[str, object]]:
    """Made up: text ids, groups, a date, numbers and texts of which some are missing; three targets that follow."""
    dice = random.Random(first)
    rows: list[dict[str, object]] = []
    for number in range(first, first + count):
        area, rooms = dice.gauss(100, 30), dice.randint(1, 7)
        heating = dice.choice(["gas", "oil", "heat pump", ""])
        year = dice.randint(2015, 2025)
        price = round(1000 * area + 20_000 * rooms + 15_000 * (heating == "heat pump") + dice.gauss(0, 10_000), 2)
        rows.append(
            {
                "house": f"{number:05d}",
                "street": f"street {number // 4}",
                "sold": f"{year}-{dice.randint(1, 12):02d}-{dice.randint(1, 28):02d}",
                "area": "" if dice.random() < 0.1 else round(area, 1),
                "rooms": rooms,
                "heating": heating,
                "price": price,
                "is_sold": int(price + dice.gauss(0, 20_000) < 180_000),
                "kind": "castle" if price > 220_000 else "flat" if price > 150_000 else "hut",
            }
        )
    return rows


def write(folder: Path, target: str) -> None:
    """The three files of a competition."""
    folder.mkdir(parents=True)
    others = {"price", "is_sold", "kind"} - {target}
    train = [{key: value for key, value in row.items() if key not in others} for row in houses(400)]
    test = [{key: value for key, value in row.items() if key not in others} for row in houses(80, first=400)]
    sample = [{"house": row["house"], target: train[0][target]} for row in test]
    without = [{key: value for key, value in row.items() if key != target} for row in test]
    for name, rows in (("train", train), ("test", without), ("sample_submission", sample)):
        with open(folder / f"{name}.csv", "w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def follow(part: str, shell: Callable[[str], str], folder: Path) -> str:
    """Do what stands between two headings; what the commands printed."""
    [section] = re.findall(rf"^## {part}\n(.*?)(?=^## |\Z)", GUIDE, flags=re.M | re.S)
    printed = ""
    for language, block in all_blocks(section):
        if language == "bash":
            printed += shell(block)
        else:
            file = re.match(r"# (\S+)\n", block)
            assert file, block
            put(folder / file[1], block)
    return printed


@pytest.fixture(scope="module")
def shop(boosting: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of one's own with three competitions in input/."""
    made = own_copy(boosting, tmp_path_factory.mktemp("guide") / "myproj")
    for folder, target in (("houses", "price"), ("offers", "is_sold"), ("kinds", "kind")):
        write(made.folder / "input" / folder, target)
    return made


def shell_of(made: Project, python: Path | None = None, **variables: str) -> Callable[[str], str]:
    """Runs commands in a project, with the programs beside a Python: of its own environment, or another."""
    python = python or made.python
    environment = made.environment(WANDB_MODE="disabled", COLUMNS="100", **variables)
    environment["PATH"] = f"{python.parent}:{environment['PATH']}"

    def run(script: str) -> str:
        script = script.replace("uv run ", "")
        return call("bash", "-euo", "pipefail", "-c", script, cwd=made.folder, env=environment).stdout

    return run


def changed_lines(old: Path, new: Path) -> int:
    lines = difflib.unified_diff(*(file.read_text().splitlines() for file in (old, new)), n=0, lineterm="")
    return sum(line.startswith("+") and not line.startswith("+++") for line in lines)


def ids(file: Path) -> list[str]:
    with open(file, newline="") as stream:
        return [row["house"] for row in csv.DictReader(stream)]


def test_a_table(shop: Project) -> None:
    """A score, the board, two submissions with every id as it was, of at most 30 changed lines; lint-clean."""
    printed = follow("A table", shell_of(shop), shop.folder)
    assert "5/5 folds" in printed and "002-houses/houses" in printed
    made, baseline = (shop.folder / "experiments" / name for name in ("002-houses", "001-baseline"))
    changed = {name: changed_lines(baseline / name, made / name) for name in ("train.py", "model.py", "config.yaml")}
    assert sum(changed.values()) <= 30, changed
    call("ruff", "check", "--no-cache", cwd=made)
    expected = ids(shop.folder / "input/houses/sample_submission.csv")
    submissions = [
        *shop.folder.glob("output/submissions/*.csv"),
        *shop.folder.glob("output/002-houses/*/full/submission.csv"),
    ]
    assert len(submissions) == 2
    assert all(ids(file) == expected and expected[0] == "00400" for file in submissions)
    score = re.search(r"CV rmse ([\d.]+)", printed)
    assert score and float(score[1]) < 40_000, "the mean of the prices alone gives about 52,000"


@pytest.mark.parametrize(("part", "least"), [("Yes or no", 0.9), ("Several classes", 0.8)])
def test_other_targets(shop: Project, part: str, least: float) -> None:
    printed = follow(part, shell_of(shop), shop.folder)
    score = re.search(r"CV \w+ ([\d.]+)", printed)
    assert score and float(score[1]) > least, printed


def test_other_rows(shop: Project) -> None:
    """After "A table": two models predict the test set, and not the same."""
    folds, full = follow("Predict other rows", shell_of(shop), shop.folder).splitlines()[-2:]
    assert folds != full and all(len(re.findall(r"\d{5,}\.\d+", line)) == 3 for line in (folds, full))


def test_a_table_in_a_project_of_another_framework(
    project: Project, shop: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The line that `exp new` prints adds what is missing; then the guide holds there, too, with the same score."""
    made = own_copy(project, tmp_path_factory.mktemp("other") / "myproj")
    write(made.folder / "input/houses", "price")
    shell = shell_of(made)
    [add] = re.findall(r"^ *(uv add .*)$", shell("exp new try --framework lightgbm"), flags=re.M)
    shell(f"{add}; rm -r experiments/002-try")
    printed = follow("A table", shell, made.folder)
    scores = [store.read_run(each.folder / "output/002-houses/houses").cv["scores"]["rmse"] for each in (shop, made)]
    assert scores[0] == scores[1] and "5/5 folds" in printed


def draw(folder: Path) -> None:
    """Birds: pictures of several sizes, whose colour is that of the class; and the pictures to predict."""
    dice = random.Random(0)
    names = ["crow", "gull", "owl"]

    def picture(file: Path, name: str) -> None:
        size = dice.randint(30, 60)
        image = Image.effect_noise((size, size), 40).convert("RGB")
        x, y = dice.randint(0, size // 2), dice.randint(0, size // 2)
        box = (x, y, x + size // 3, y + size // 3)
        drawing = ImageDraw.Draw(image)
        drawing.ellipse(box, {"crow": "black", "gull": "gold", "owl": "brown"}[name])
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file)

    for name in names:
        for number in range(30):
            picture(folder / "train" / name / f"{number:04d}.png", name)
    with open(folder / "sample_submission.csv", "w") as sample:
        sample.write("id,bird\n")
        for number in range(30):
            picture(folder / "test" / f"{number:04d}.png", names[number % 3])
            sample.write(f"{number:04d}.png,crow\n")


def test_pictures_in_folders(network: Project, tmp_path: Path) -> None:
    """Followed in a project that has PyTorch; the submission names the birds, and most of them rightly."""
    made = Project(tmp_path / "myproj", network.home)
    call("git", "clone", "-q", network.folder, made.folder, cwd=tmp_path)
    shutil.copytree(made.folder / "experiments/001-baseline", made.folder / "experiments/004-before")
    draw(made.folder / "input/birds")
    shell = shell_of(made, network.python, EXPKIT_ROOT=str(made.folder), PYTHONPATH=str(made.folder / "src"))

    def quickly(script: str) -> str:
        return shell(re.sub(r"uv add .*", "", script).replace("'exp.fold=[0,1,2,3,4]'", "'exp.fold=[0,1]'"))

    printed = follow("Pictures in folders", quickly, made.folder)
    score = re.search(r"CV accuracy ([\d.]+)", printed)
    assert score and float(score[1]) > 0.8, printed
    [submission] = made.folder.glob("output/005-birds/*/full/submission.csv")
    with open(submission, newline="") as stream:
        rows = [(row["id"], row["bird"]) for row in csv.DictReader(stream)]
    right = [name == ["crow", "gull", "owl"][place % 3] for place, (_, name) in enumerate(rows)]
    assert len(right) == 30 and sum(right) > 24, rows


@pytest.fixture(autouse=True, scope="module")
def _commit(shop: Project) -> None:
    commit_all(shop.folder)
