"""A loss's options: what each is, its range and its default, declared once beside the field.

    m2: float = field(default=0.3, metadata=option("added to the angle, radians", at_least=0, below=math.pi))

`check_options` enforces what was declared, `options_of` lists it (`cosface losses`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from partial_fc.errors import require

_KEY = "option"
_GREEK = {math.pi: "π", math.pi / 2: "π/2"}
_KINDS: dict[type, tuple[type, str]] = {
    bool: (bool, "True or False"),
    int: (Integral, "whole number"),
    float: (Real, "number"),
    str: (str, "word"),
}


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of a loss. A bound that is a text is the name of another option of the same loss."""

    meaning: str
    at_least: float | str | None = None
    above: float | str | None = None
    at_most: float | None = None
    below: float | None = None
    one_of: tuple[object, ...] = ()
    is_margin: bool = False
    """Whether it is one of those that stand for m in a loss without a `margin`."""
    name: str = ""
    default: object = None

    @property
    def type(self) -> type:
        """bool, int, float or str; float where the default is None."""
        return float if self.default is None else type(self.default)

    @property
    def kind(self) -> str:
        """The type in words."""
        return _KINDS[self.type][1]

    def range(self, others: Mapping[str, object] | None = None) -> str:
        """What a value must be, in words; others: the loss's options, for bounds that are one of them."""
        if self.one_of:
            *first, last = map(repr, self.one_of)
            return f"{', '.join(first)} or {last}"
        limits = (
            ("at least", self.at_least),
            ("above", self.above),
            ("at most", self.at_most),
            ("below", self.below),
        )
        told = [f"{how} {_shown(limit, others or {})}" for how, limit in limits if limit is not None]
        if self.type is float and self.at_most is None and self.below is None:
            told[0] = f"a finite number {'of ' if self.above is None else ''}{told[0]}"
        return " and ".join(told) or self.kind

    def check(self, value: Any, others: Mapping[str, Any]) -> None:
        """Raise HeadInputError unless a value is of the type and in the range."""
        if value is not None or self.default is not None:
            holds = self._is_of_type(value) and self._is_in_range(value, others)
            found = repr(value) if isinstance(value, str) else value
            require(holds, self.name, self.range(others), found)

    def _is_of_type(self, value: object) -> bool:
        if self.type is bool or isinstance(value, bool):
            return self.type is bool and isinstance(value, bool)
        return bool(self.one_of) or isinstance(value, _KINDS[self.type][0])

    def _is_in_range(self, value: Any, others: Mapping[str, Any]) -> bool:
        if self.one_of or self.type is bool:
            return self.type is bool or value in self.one_of
        least, above = (others[x] if isinstance(x, str) else x for x in (self.at_least, self.above))
        return (
            math.isfinite(value)
            and (least is None or least <= value)
            and (above is None or above < value)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )


def option(meaning: str, **limits: Any) -> dict[str, Option]:
    """The metadata of a field that is an option; limits: as Option's fields."""
    return {_KEY: Option(meaning, **limits)}


def options_of(kind: type) -> dict[str, Option]:
    """A loss's options by name, in the order in which its class has them.

    A class of one's own need not declare its fields: then their values are its own affair. A field that has
    another default there than in the base keeps the base's range.
    """
    found = {}
    for field in dataclasses.fields(kind):
        of_bases = (getattr(base, "__dataclass_fields__", {}).get(field.name) for base in kind.__mro__)
        declared = [one.metadata[_KEY] for one in of_bases if one is not None and _KEY in one.metadata]
        if declared:
            found[field.name] = dataclasses.replace(declared[0], name=field.name, default=field.default)
    return found


def check_options(margin: Any) -> None:
    """Raise HeadInputError for the first option of a loss that is of a wrong type or out of its range."""
    options = options_of(type(margin)).values()
    values = {option.name: getattr(margin, option.name) for option in options}
    # Those with a bound of another option's come last: that one is a number in its range by then.
    for one in sorted(options, key=lambda one: isinstance(one.at_least, str) or isinstance(one.above, str)):
        one.check(values[one.name], values)


def _shown(limit: float | str, others: Mapping[str, object]) -> str:
    if isinstance(limit, str):
        return f"{limit} = {others[limit]}" if limit in others else limit
    return _GREEK.get(limit, f"{limit:g}")
