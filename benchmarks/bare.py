"""The floor: a Hydra application with the YAML files and the dataclasses of the baseline. It trains nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Optional

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

Mode = Enum("Mode", {"cv": "cv", "sub": "sub"})
SplitMethod = Enum("SplitMethod", {name: name for name in ("kfold", "stratified", "group", "time", "column")})


@dataclass
class SplitConfig:
    method: SplitMethod = SplitMethod.kfold
    seed: int = 42
    holdout: float = 0.2
    gap: int = 0
    file: str = ""
    id: str = "id"
    column: str = "fold"


@dataclass
class TrainConfig:
    hidden: int = 64
    epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 1e-3


@dataclass
class RuntimeConfig:
    tags: list[str] = field(default_factory=list)


@dataclass
class ExpConfig:
    name: str = "baseline"
    n_folds: int = 5
    fold: Optional[list[int]] = None  # noqa: UP045 - as OmegaConf reads a text
    split: SplitConfig = field(default_factory=SplitConfig)
    seed: int = 42
    debug: bool = False
    mode: Mode = Mode.cv
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass
class Config:
    exp: ExpConfig = field(default_factory=ExpConfig)
    show_config: bool = False
    overwrite: bool = False


ConfigStore.instance().store(name="schema", node=Config)
ConfigStore.instance().store(name="default", group="exp", node={})


@hydra.main(version_base=None, config_path=".", config_name="config")
def main(cfg):
    OmegaConf.to_object(cfg)
    if cfg.show_config:
        print(OmegaConf.to_yaml(cfg), end="")
    return 0.0


main()
