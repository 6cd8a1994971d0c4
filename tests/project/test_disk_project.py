"""One bad entry hides no other, costs no work, and is said in one line: in output/, notes/ and on the way to stdout."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Project, call


@pytest.mark.slow
def test_a_locale_without_unicode(project: Project, root: Path) -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    project.train("exp.fold=[0,1]", "exp.train.epoch=2", "exp.n_folds=2", root=root, **plain)
    environment = project.environment(PROJECT_ROOT=str(root), **plain)
    command = project.python.with_name("exp")
    for arguments in (["board"], ["board", "--md"], ["show", "baseline"], ["oof", "baseline"], ["note"], ["clean"]):
        assert call(command, *arguments, cwd=project.folder, env=environment).stdout
