"""notebooks/page.py in a real browser: runs of every kind, and one file without a network."""

from __future__ import annotations

import html
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy
import pytest
from commands import command
from conftest import Project, background, call, own_copy
from experiments import own_experiment
from light import wait_for
from playwright.sync_api import Browser, Page, expect, sync_playwright
from several import WIDE, files

import expkit
from expkit.config import flat
from expkit.ensemble import blend
from expkit.files import write_json

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")]

expect.set_options(timeout=30_000)  # other tests take the cores meanwhile
ODD = 'a.b[0], $x$ <img src=x onerror=alert(1)> & "q"'  # means something to JSON, HTML, Markdown and Vega
CURVES = f"""if exp.train.fails: raise ValueError("planted")
    [fold.log(**{{"epoch": epoch, "loss": 1 / epoch + fold.number, {ODD!r}: 0.5}}) for epoch in range(1, 6)]
"""
MORE = """

def more(kind, rows, noise, seed):
    return predicted(kind, np.concatenate([rows + 300 * part for part in range(10)]), noise, seed)
"""
STEPS = """[fold.log(step=step, loss=1.0) for step in range(700)]
    [fold.log(epoch=epoch, loss=2.0) for epoch in (1, 2, 3)[:3 - (fold.number == 1)]]
"""


@pytest.fixture(scope="module")
def paged(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with what notebooks/page.py needs."""
    own = own_copy(project, tmp_path_factory.mktemp("paged") / "myproj")
    call("uv", "sync", "-q", "--group", "page", cwd=own.folder, env=own.environment())
    return own


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        with playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as found:
            yield found


@contextmanager
def tab(browser: Browser, **options: Any) -> Iterator[Page]:
    """A page that must not complain: no error in the console, no request but to where it comes from."""
    complaints: list[str] = []
    with browser.new_context(**options) as context:
        page = context.new_page()
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(request.url))
        yield page
        assert complaints == []


@contextmanager
def served(paged: Project, root: Path) -> Iterator[str]:
    """The address of the page of the runs below `root`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["run", "--headless", "--no-token", "--host", "127.0.0.1", "--port", str(port), "notebooks/page.py"]
    environment = paged.environment(PROJECT_ROOT=str(root))
    server = background(
        paged.folder / ".venv/bin/marimo", *command, cwd=paged.folder, env=environment, stdout=subprocess.DEVNULL
    )

    def answers() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    wait_for(answers, server)
    yield f"http://127.0.0.1:{port}"


def write_file(paged: Project, root: Path, *arguments: str | Path, check: bool = True) -> str:
    """What `python notebooks/page.py` prints as an error."""
    command = [paged.python, "-W", "error", "notebooks/page.py", *arguments]
    return call(*command, cwd=paged.folder, env=paged.environment(PROJECT_ROOT=str(root)), check=check).stderr


def with_other_rows(texts: dict[str, str], function: str) -> dict[str, str]:
    """An experiment whose out-of-fold predictions a function above makes."""
    train = texts["train.py"].replace("model.predicted(KIND, model.rows", f"model.{function}(KIND, model.rows")
    return {"train.py": train, "model.py": texts["model.py"] + WIDE + MORE}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """A PROJECT_ROOT with runs of every kind, and their names."""
    root = tmp_path_factory.mktemp("shop")
    (root / "input").mkdir()
    odd_labels = files("species")
    odd_labels["model.py"] = odd_labels["model.py"].replace('["cat", "dog", "yak"]', repr(["cat", "</script>,", ODD]))
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("PROJECT_ROOT", str(root))
        patch.setenv("WANDB_MODE", "disabled")
        kinds = {"price": files("price", CURVES), "risk": files("risk"), "species": odd_labels}
        kinds["wide"] = with_other_rows(files("price"), "wide")
        kinds["big"] = with_other_rows(files("price", STEPS), "more")

        folders = {kind: stack.enter_context(own_experiment(texts)).name for kind, texts in kinds.items()}
        others = [("price", ["exp.train.noise=0.5"]), ("price", ["exp.seed=1", "exp.fold=[0]"])]
        for kind, overrides in [*((kind, []) for kind in kinds), *others]:
            expkit.run(folders[kind], overrides=overrides)
        with pytest.raises(expkit.Error, match="failed: fold 0"):
            expkit.run(folders["price"], overrides=["exp.train.fails=true"])
        command().train()
        names = {kind: f"{folder}/light" for kind, folder in folders.items()} | {"light": "002-light/light"}
        more = {"worse": "train.noise=0.5", "partial": "seed=1", "failed": "train.fails=true"}
        names |= {kind: f"{names['price']},exp.{override}" for kind, override in more.items()}
        names["blend"] = blend([expkit.load_run(names[run]) for run in ("price", "worse")], "mean")[0].title
        names["odd"] = f"{folders['price']}/{ODD}"
        folder = shutil.copytree(root / "output" / names["price"], root / "output" / names["odd"])
        info = json.loads((folder / "run.json").read_text())
        info["config"]["exp"]["train"][ODD] = "<b>"
        write_json(folder / "run.json", info)
        yield root, names


@pytest.fixture(scope="module")
def sent(paged: Project, shop: tuple[Path, dict[str, str]]) -> Path:
    """The page as a file, with 10 runs ticked."""
    root, names = shop
    ticked = [name for kind, name in names.items() if kind != "big"]
    assert write_file(paged, root, root / "page.html", *ticked) == ""
    return root / "page.html"


def test_every_kind_of_run(paged: Project, browser: Browser, shop: tuple[Path, dict[str, str]]) -> None:
    """Each has a line on the board, and a chart or a word of where it errs."""
    root, names = shop
    with served(paged, root) as address, tab(browser, viewport={"width": 1600, "height": 3000}) as page:
        page.goto(address)
        board = page.locator("table").first
        expect(board.locator("tbody tr")).to_have_count(len(names), timeout=60_000)
        shown = board.inner_text()
        assert all(name in shown for name in names.values())
        assert {"rmse ↓", "accuracy ↑", "auc ↑", "partial", "mean"} <= set(re.split(r"[\t\n]+", shown))
        expect(page.get_by_text("11 runs, 1 of them without a score")).to_be_visible()
        board.locator("thead [role=checkbox]").click()
        expect(page.get_by_text("Drawn are the first 10 of 11 ticked runs.")).to_be_visible()
        words = {
            "light": " has no columns target and prediction; it has id, prediction, fold",
            "failed": " has no columns target and prediction; it has no finished fold",
            "wide": ", output 1: 300 out-of-fold rows",
            "partial": ": 100 out-of-fold rows",
            "big": ": 3000 out-of-fold rows, of which",
            "species": ": 300 out-of-fold rows, 32 of them wrong",
        }
        for kind, word in words.items():
            page.locator("select").last.select_option(names[kind])
            expect(page.get_by_text(f"{names[kind]}{word}")).to_be_visible()
        expect(page.locator("img[src=x]")).to_have_count(0)
        expect(page.locator("pre")).to_have_count(0)  # the value of a last line that was not meant to be shown
        page.get_by_placeholder("Search").first.fill(names["risk"])
        expect(board.locator("tbody tr")).to_have_count(1)


def test_the_file_in_a_browser(browser: Browser, sent: Path, shop: tuple[Path, dict[str, str]]) -> None:
    """Opened from the disk, without a network: the board, which can be sorted and filtered, and every chart."""
    names = shop[1]
    assert sent.stat().st_size < 5_000_000
    with tab(browser, offline=True, color_scheme="dark") as page:
        page.goto(sent.as_uri())
        expect(page.locator(".chart svg.marks")).to_have_count(len(charts_of(sent)))
        rows = page.locator("table").first.locator("tbody tr")
        assert {text.split("\t")[0] for text in rows.all_inner_texts()} == set(names.values())
        expect(page.locator("tr.ticked")).to_have_count(10)
        head = page.locator("table").first.locator("th")
        place = head.all_inner_texts().index("score")
        for direction in (1, -1):
            head.nth(place).click()
            texts = rows.locator(f"td:nth-child({place + 1})").all_inner_texts()
            numbers = [direction * float(text) for text in texts if text]
            assert numbers == sorted(numbers) and texts[len(numbers) :] == [""] * (len(texts) - len(numbers))
        page.get_by_placeholder("filter").fill("RMSE noise")
        expect(page.locator("table").first.locator("tbody tr:visible")).to_have_count(2)  # the blend is of a noisy one
        expect(page.locator("img")).to_have_count(0)
        inks = "[...document.querySelectorAll('svg.marks text')].map(text => getComputedStyle(text).fill)"
        assert set(page.evaluate(inks)) == {"rgb(255, 255, 255)"}, "readable on the ground of a dark page"


def charts_of(file: Path) -> list[dict[str, Any]]:
    content = json.JSONDecoder().raw_decode(file.read_text().split("const page = ")[1])[0]
    charts: list[dict[str, Any]] = content["charts"]
    return charts


def rows_of(chart: dict[str, Any], *columns: str) -> list[list[Any]]:
    """The rows of the one dataset of a chart that has all these columns."""
    tables = [table for table in chart["datasets"].values() if table and set(columns) <= table[0].keys()]
    assert len(tables) == 1
    return [[row[column] for column in columns] for row in tables[0]]


def listed(file: Path) -> list[list[list[str]]]:
    """The cells of every table of the file."""
    tables = re.findall(r"<tbody>(.*?)</tbody>", file.read_text().partition("<script>")[0], re.S)
    return [
        [[html.unescape(cell) for cell in re.findall("<td>(.*?)</td>", row, re.S)] for row in table.split("</tr>")[:-1]]
        for table in tables
    ]


def errors_of(file: Path, run: str) -> tuple[dict[str, Any], list[list[str]]]:
    """The chart and the table of where a run errs."""
    before = file.read_text().partition(f"<p>{run}: ")[0]
    return charts_of(file)[before.count("<div class=chart>")], listed(file)[before.count("<div class=scroll>")]


def test_runs_that_are_chosen_in_the_file(browser: Browser, sent: Path, shop: tuple[Path, dict[str, str]]) -> None:
    """A click on a run: the curves are its own, other points are small, and where others err is hidden. On a phone."""
    names = shop[1]
    with tab(browser, viewport={"width": 390, "height": 800}) as page:
        page.goto(sent.as_uri())
        charts, rows = page.locator(".chart svg.marks"), page.locator("table").first.locator("tbody tr")
        lines, points = (
            charts.nth(n).locator(f".role-mark.mark-{one} path") for n, one in enumerate(["line", "symbol"])
        )
        expect(charts).to_have_count(len(charts_of(sent)))

        def shown() -> tuple[int, int, set[str]]:
            """How many lines, how many large points, and whose errors."""
            page.evaluate("async () => {for (const view of await views) await view.runAsync()}")
            sizes = points.evaluate_all("points => points.map(point => point.getBBox().width)")
            texts = page.locator("p:visible").all_inner_texts()
            about = {
                kind for kind, name in names.items() for text in texts if text.startswith((f"{name}:", f"{name} has"))
            }
            return lines.count(), sum(size > 7 for size in sizes), about

        before = shown()
        assert page.evaluate("document.documentElement.scrollWidth") == 390, "tables and charts scroll, not the page"
        assert before[2] == names.keys() - {"big", "wide"}
        for kind in ("price", "species"):
            rows.filter(has=page.locator("td:first-child").get_by_text(names[kind], exact=True)).click()
        # of the two things logged, three folds and their mean; of three parameters, a point each
        assert shown() == (2 * 4, 3, {"price", "species"})
        page.locator("tr.chosen").first.click()
        page.locator("tr.chosen").first.click()
        assert shown() == before


def test_the_charts_in_the_file(sent: Path, shop: tuple[Path, dict[str, str]]) -> None:
    """Curves of every run that has logged something; scores against parameters; where runs err, the worst rows."""
    names = shop[1]
    curves, scores, *_, lineage = charts_of(sent)
    (species, mistaken), (price, largest) = (errors_of(sent, names[kind]) for kind in ("species", "price"))
    views = [(view["encoding"]["y"]["title"], view["encoding"]["x"]["title"]) for view in curves["concat"]]
    assert views == [("loss", "epoch"), (ODD, "epoch")]
    losses = curves["datasets"][curves["concat"][0]["data"]["name"]]
    assert {row["color"] for row in losses} == {names["price"], names["odd"], names["worse"], names["partial"]}
    mean = [(row["x"], row["y"]) for row in losses if (row["color"], row["fold"]) == (names["price"], "mean")]
    assert mean == [(epoch, pytest.approx(1 / epoch + 1)) for epoch in range(1, 6)]

    titles = ["exp.seed (1 runs have none)", "exp.train.noise (1 runs have none)", f"exp.train.'{ODD}'"]
    assert [view["encoding"]["x"]["title"] for view in scores["concat"]] == titles
    board = {run.title: run for run in expkit.read_board() if run.metric == "rmse" and run.score is not None}
    noises = scores["datasets"][scores["concat"][1]["data"]["name"]]
    drawn = {row["name"]: (row["score"], row["x"]) for row in noises}
    assert drawn == {title: (run.score, flat(run.config).get("exp.train.noise")) for title, run in board.items()}

    oof = expkit.load_run(names["species"]).oof
    pairs = list(zip(oof["target"].tolist(), oof["prediction"].tolist(), strict=True))
    confused = {(target, guess): rows for target, guess, rows in rows_of(species, "target", "prediction", "rows")}
    assert confused == {pair: pairs.count(pair) for pair in set(pairs)}
    assert len(mistaken) == 10 and all(target != guess for _, _, target, guess, *_ in mistaken)
    oof = expkit.load_run(names["price"]).oof
    error = oof["prediction"] - oof["target"]
    worst = numpy.argsort(-abs(error))[:10]
    assert [row[0] for row in largest] == [str(oof["id"][place]) for place in worst]
    assert [float(row[4]) for row in largest] == pytest.approx(error[worst].tolist(), rel=1e-5)
    assert {one for [one] in rows_of(price, "id")} == {str(one) for one in oof["id"].tolist()}

    made = {name: (x, color) for name, x, color in rows_of(lineage, "name", "x", "color")}
    assert made == {names[kind]: (int(kind == "blend"), names[kind]) for kind in ("price", "worse", "blend")}
    links = rows_of(lineage, "name2", "name", "read")
    assert sorted(links) == sorted([names["blend"], names[kind], "oof"] for kind in ("price", "worse"))


def test_a_mistake_is_one_line(paged: Project, shop: tuple[Path, dict[str, str]]) -> None:
    for arguments, message in (
        ([], "name the file to write, such as output/page.html"),
        (["page.html", "no-such-run"], "no run is called no-such-run"),
        (["no-such-folder/page.html"], "no-such-folder/page.html: there is no such folder"),
    ):
        printed = write_file(paged, shop[0], *arguments, check=False)
        assert printed.startswith(f"error: {message}") and printed.count("\n") == 1
    assert call("git", "status", "--porcelain", cwd=paged.folder).stdout == ""


def test_no_runs(paged: Project, browser: Browser, tmp_path: Path) -> None:
    """The page says what to do, and so does the command that would write a file."""
    with served(paged, tmp_path) as address, tab(browser) as page:
        page.goto(address)
        expect(page.get_by_text("No runs yet. Train the baseline")).to_be_visible(timeout=60_000)
    assert "No runs yet. Train the baseline" in write_file(paged, tmp_path, tmp_path / "page.html", check=False)
    assert not (tmp_path / "page.html").exists()


def test_what_is_left_out_of_a_chart_is_said(paged: Project, shop: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """Long curves, many rows; steps are drawn apart from epochs."""
    file, name = tmp_path / "page.html", shop[1]["big"]
    write_file(paged, shop[0], file, name)
    curves, big = charts_of(file)[0], charts_of(file)[-1]
    views = {view["encoding"]["x"]["title"]: curves["datasets"][view["data"]["name"]] for view in curves["concat"]}
    assert [row["x"] for row in views["epoch"] if row["fold"] == "mean"] == [1, 2]
    assert [row["x"] for row in views["step (1 of 3 drawn)"] if row["fold"] == "0"] == list(range(0, 700, 3))
    oof = expkit.load_run(name).oof
    ids = {one for [one] in rows_of(big, "id")}
    worst = [str(oof["id"][place]) for place in numpy.argsort(-abs(oof["prediction"] - oof["target"]))[:10]]
    assert 2000 <= len(ids) <= 2010 and set(worst) <= ids
    text = html.unescape(file.read_text().partition("<script>")[0])
    assert f"{name}: 3000 out-of-fold rows, of which {len(ids)} are drawn." in text
    assert "None of these runs was made from another one." in text
    assert [row[0] for row in listed(file)[1]] == worst
