"""The floor of `exp check`: composes every parameter set in a bare loop, into the dataclasses of bare.py."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import hydra
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

bare, experiments = sys.argv[1:]
hydra.main = lambda **_: lambda function: lambda: None  # the application itself is not wanted
spec = importlib.util.spec_from_file_location("bare", bare)
assert spec is not None and spec.loader is not None
module = importlib.util.module_from_spec(spec)
sys.modules["bare"] = module
spec.loader.exec_module(module)
for folder in sorted(Path(experiments).iterdir()):
    if not (folder / "config.yaml").is_file():
        continue
    with initialize_config_dir(str(folder), version_base=None):
        for overrides in [[], *([f"exp='{file.stem}'"] for file in sorted((folder / "exp").glob("*.yaml")))]:
            OmegaConf.to_object(compose("config", overrides))
