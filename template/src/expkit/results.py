"""A run that lies on disk, for notebooks and scripts: configuration, scores, predictions, learning curves, models."""

from __future__ import annotations

import functools
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from expkit.board import Row, find_run, read_run
from expkit.errors import Error, require
from expkit.files import read_csv, read_json
from expkit.paths import code_root, shown

if TYPE_CHECKING:
    import numpy

Table = dict[str, list[Any]]


@dataclass(frozen=True)
class LoadedRun:
    """The results of a run. Everything is read when it is asked for.

    Attributes:
        folder: where it lies.
    """

    folder: Path

    @property
    def row(self) -> Row:
        """The run as the board shows it: score, standard deviation, folds, marks, ..."""
        return read_run(self.folder)

    @functools.cached_property
    def config(self) -> DictConfig:
        """The configuration, as in `config.yaml`; `config.exp.train.learning_rate`."""
        config = OmegaConf.load(self.folder / "config.yaml")
        assert isinstance(config, DictConfig)
        return config

    @property
    def folds(self) -> list[int]:
        """The folds that are done."""
        files = self.folder.glob("fold*/result.json")
        return sorted(int(file.parent.name[4:]) for file in files if read_json(file) is not None)

    def result(self, fold: int) -> dict[str, Any]:
        """The `result.json` of a fold: score, best epoch, seconds, command, git, packages, ..."""
        content = read_json(self._part(fold) / "result.json")
        if content is None:
            raise Error(f"fold {fold} of {shown(self.folder)} is not done; there are {self.folds}")
        return content

    def history(self, fold: int) -> Table:
        """The learning curve of a fold, one entry an epoch: {"epoch": [1, ...], "train_loss": [...], ...}."""
        return read_csv(self._part(fold) / "history.csv")

    @functools.cached_property
    def oof(self) -> Table:
        """Out-of-fold predictions of all folds that are done, in the order of the row ids, one entry a row.

        The columns of `oof.csv` ("id", "target", "prediction", "probability_<class>", ...) and "fold".
        """
        rows: list[dict[str, Any]] = []
        for fold in self.folds:
            table = read_csv(self._part(fold) / "oof.csv")
            rows += [
                dict(zip(table, values, strict=True)) | {"fold": fold} for values in zip(*table.values(), strict=True)
            ]
        rows.sort(key=lambda row: row["id"])
        return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}

    def model(self, fold: int | None) -> Any:
        """The model of a fold, or, for None, the one trained on all rows: what `model.load` of the experiment returns.

        It is loaded by the code of the experiment as it is now. Models are pickles: load only what you trained.
        """
        folder = self._part(fold)
        files = sorted(folder.glob("model.*"))
        require(len(files) == 1, f"{shown(folder)} has {len(files)} files model.*, and not one")
        return self._code().load(files[0])

    def predict(self, X: numpy.ndarray, folds: list[int] | None = None) -> numpy.ndarray:
        """Class probabilities of new rows, the mean over the models of the folds.

        Args:
            X: (n, features), as the experiment's `load_data` gives them.
            folds: which models; None: of every fold that is done.

        Returns:
            (n, classes).
        """
        import numpy

        chosen = self.folds if folds is None else folds
        require(bool(chosen), f"{shown(self.folder)} has no finished fold")
        return numpy.asarray(numpy.mean([self.model(fold).predict_proba(X) for fold in chosen], axis=0))

    def _part(self, fold: int | None) -> Path:
        folder = self.folder / ("full" if fold is None else f"fold{fold}")
        if not (folder / "result.json").is_file():
            what = "the training on all data" if fold is None else f"fold {fold}"
            raise Error(f"{what} of {shown(self.folder)} is not done; folds {self.folds} are")
        return folder

    def _code(self) -> Any:
        """The `model.py` of the experiment."""
        file = code_root() / "experiments" / self.folder.parent.name / "model.py"
        if not file.is_file():
            raise Error(f"{shown(file)} is not there: the code of the run is in its snapshot")
        name = f"expkit_model_{file.parent.name}"
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module


def load_run(run: str | Path) -> LoadedRun:
    """The results of a run.

    Args:
        run: "<experiment>/<run>", a folder, or any part of the name that only one run has.

    Raises:
        Error: there is no such run, or more than one.
    """
    return LoadedRun(find_run(str(run)))
