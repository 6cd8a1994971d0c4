"""What a study searches: the overrides of its command line, of which some take more than one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Transformer
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from expkit.errors import Error, require


class Space:
    """The parameters of a study.

    Args:
        overrides: of Hydra's; `choice(...)`, `range(...)`, `interval(...)`, and `a,b,c`, are searched.

    Raises:
        Error: a range without a value, or a sweep that Optuna has no distribution for.

    Attributes:
        searched: name to distribution.
        fixed: the other overrides, as they were typed.
    """

    def __init__(self, overrides: Sequence[str]) -> None:
        self.searched: dict[str, BaseDistribution] = {}
        self.fixed: list[str] = []
        for override in OverridesParser.create().parse_overrides(list(overrides)):
            if override.is_sweep_override():
                self.searched[override.get_key_element()] = distribution(override)
            elif override.input_line is not None:
                self.fixed.append(override.input_line)

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """The overrides of a trial. Args: values: of the parameters, by name."""
        return [*(f"{name}={self._written(name, value)}" for name, value in values.items()), *self.fixed]

    def _written(self, name: str, value: Any) -> Any:
        stepped = getattr(self.searched.get(name), "step", None)
        if isinstance(value, float) and stepped is not None:
            return float(f"{value:.12g}")  # 0.1 + 2 * 0.1
        return value

    def grid(self) -> dict[str, list[Any]] | None:
        """Every value of each parameter; None: of some there is no end."""
        found = {name: points(one) for name, one in self.searched.items()}
        return None if None in found.values() else {name: list(values or ()) for name, values in found.items()}


def distribution(override: Override) -> BaseDistribution:
    """What an override of several values means to Optuna. Raises: Error."""
    value, text = override.value(), override.input_line
    is_changed = getattr(value, "shuffle", False) or getattr(
        value, "transformers", False
    )  # of 1.4, as float(range(1,8))
    if isinstance(value, ChoiceSweep) or isinstance(value, RangeSweep) and is_changed:
        values, texts = override.sweep_iterator(transformer=Transformer.identity), override.sweep_string_iterator()
        plain = (bool, int, float)  # the others as an override has them, quoted where they must be
        return CategoricalDistribution(
            [one if isinstance(one, plain) else text for one, text in zip(values, texts, strict=True)]
        )
    if isinstance(value, RangeSweep):
        require(value.step != 0 and value.stop is not None, f"{text}: a range needs an end, and a step that is not 0")
        known = list(value.range())
        require(len(known) > 0, f"{text}: there is no value in this range")
        low, high, step = min(known), max(known), abs(value.step)
        if all(isinstance(one, int) for one in known):
            return IntDistribution(int(low), int(high), step=int(step))
        return FloatDistribution(float(low), float(high), step=float(step))
    if isinstance(value, IntervalSweep) and value.start is not None and value.end is not None:
        is_log, kind = "log" in value.tags, IntDistribution
        if not (isinstance(value.start, int) and isinstance(value.end, int)):
            kind = FloatDistribution
        try:
            return kind(value.start, value.end, log=is_log)
        except ValueError as error:
            raise Error(f"{text}: {error}") from error
    raise Error(f"{text}: a study takes choice(...), range(...) and interval(...)")


def points(one: BaseDistribution) -> list[Any] | None:
    """Every value of a distribution; None: there is no end of them."""
    if isinstance(one, CategoricalDistribution):
        return list(one.choices)
    if isinstance(one, IntDistribution):
        return list(range(one.low, one.high + 1, one.step))
    if isinstance(one, FloatDistribution) and one.step is not None:
        count = round((one.high - one.low) / one.step) + 1
        return [min(one.low + number * one.step, one.high) for number in range(count)]
    return None
