"""The configuration from Python: from any folder, again and again, in a notebook, and beside Hydra's own functions."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import Project, call

SCRIPT = """
import expkit
from hydra import compose, initialize_config_dir

for _ in range(2):
    config = expkit.load_config("001-baseline", overrides=["exp=001", "exp.fold=[0]"])
    assert type(config).__name__ == "Config"
    assert config.exp.train.learning_rate == 3e-3
    assert config.exp.fold == [0]
    assert config.exp.mode is expkit.Mode.cv

with initialize_config_dir(version_base=None, config_dir=str(expkit.code_root() / "experiments/001-baseline")):
    cfg = compose(config_name="config.yaml", overrides=["exp.name=foo", "exp.fold=[0]"])
    assert cfg.exp.name == "foo"
    assert expkit.load_config("001-baseline").exp.name == "baseline"
    assert compose(config_name="config.yaml").exp.name == "baseline"

for experiment, overrides in (("nope", []), ("001-baseline", ["exp.fold=[7]"])):
    try:
        expkit.load_config(experiment, overrides)
    except expkit.Error as error:
        print(error)
"""


def test_from_any_folder(project: Project, tmp_path: Path) -> None:
    printed = call(project.python, "-c", SCRIPT, cwd=tmp_path, env=project.environment()).stdout
    assert "there is no experiment 'nope'" in printed
    assert "001-baseline" in printed
    assert "exp.fold must be from 0 to 4" in printed


def test_in_a_live_kernel(project: Project) -> None:
    """Cell after cell in one Jupyter kernel, run twice; Hydra's `initialize` with a relative path works after it."""
    relative = """
from hydra import compose, initialize
with initialize(version_base=None, config_path="../experiments/001-baseline"):
    print(compose(config_name="config.yaml", overrides=["exp.name=foo", "exp.fold=[0]"]).exp.name)
"""
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    cells = [cell | {"id": f"c{n}", "source": source} for n, source in enumerate([SCRIPT, relative] * 2)]
    content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    notebook = project.folder / "output" / "test.ipynb"  # git ignores it there
    notebook.write_text(json.dumps(content))
    with_jupyter = ["uv", "run", "-q", "--with", "nbconvert", "--with", "ipykernel"]
    convert = ["jupyter", "nbconvert", "--to", "notebook", "--execute", "--stdout", "--log-level=ERROR"]
    printed = call(*with_jupyter, *convert, notebook, cwd=project.folder, env=project.environment()).stdout
    notebook.unlink()
    outputs = [output for cell in json.loads(printed)["cells"] for output in cell["outputs"]]
    text = "".join("".join(output.get("text", "")) for output in outputs)
    assert text.count("foo\n") == 2
    assert not [output for output in outputs if output["output_type"] == "error"]
