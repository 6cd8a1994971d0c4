"""How a study is called, and what its sweeper is told of the experiment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from expkit.config.compat import register_resolver
from expkit.config.values import container
from expkit.errors import Failed
from expkit.study.storage import default_storage

LONGEST_NAME = 400  # characters; Optuna takes 512
NOT_NAMED = ("overwrite=", "resume=", "show_config=", "exp.runtime.")


class NoScore(Failed):
    """No trial of a study has come to a score, or too many have failed."""


def register_study(experiment: str, greater_is_better: bool) -> None:
    """Let hydra/sweeper=optuna look for the best score, and keep its trials under output/.

    A study is named by the experiment, the overrides, and a hash of the configuration: the same command goes on with
    it, and after an edit of config.yaml it is another one.

    Args:
        experiment: the name of the experiment's folder.
        greater_is_better: of its score.
    """

    def study(*, _root_: DictConfig) -> str:
        params = _root_.hydra.sweeper.get("params")
        searched = [f"{key}={value}" for key, value in (params or {}).items()]
        return study_name(experiment, [*_root_.hydra.overrides.task, *searched], container(_root_.exp))

    register_resolver("expkit.study", study)
    register_resolver("expkit.direction", lambda: "maximize" if greater_is_better else "minimize")
    register_resolver("expkit.storage", default_storage)


def study_name(experiment: str, overrides: list[str], values: Mapping[str, Any]) -> str:
    """The name of a study."""
    named = [text for text in overrides if not text.startswith(NOT_NAMED)]
    known = {key: value for key, value in values.items() if key != "runtime" and (key, value) != ("debug", False)}
    digest = hashlib.sha256(json.dumps([named, known], sort_keys=True, default=str).encode()).hexdigest()[:8]
    return f"{' '.join([experiment, *named])[:LONGEST_NAME]} #{digest}"
