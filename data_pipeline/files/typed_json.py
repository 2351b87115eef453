"""JSON that is read back as what was written: dataclasses, every field of the type that it states.

    @dataclass(frozen=True)
    class Status:
        status: Literal["running", "stopped", "finished"]
        step: int

    from_json('{"status": "stopped", "step": null}', Status)
    ValueError: step: a whole number is expected, got null

Known are dataclasses, int, float, str, bool, None, literals, unions, list, tuple and dict[str, …]; a bool is
no number, an int does for a float, numbers are finite. A range is the dataclass's own to check, by raising
ValueError in `__post_init__`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")
_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}


def from_json(text: str | bytes, kind: type[T], *, more: bool = False) -> T:
    """The value that the text states, as `kind`.

    more: keys that `kind` does not know are passed over instead of refused. Raises ValueError, in one line
    that names the place within the text.
    """
    return typed(parse(text), kind, more=more)


def parse(text: str | bytes) -> Any:
    """What the text states, untyped; for what has to be looked at before its type is known.

    Raises ValueError for what is no JSON, also for NaN and infinity, and for what is nested without end.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def typed(value: Any, kind: type[T], *, more: bool = False) -> T:
    """A value that `json.loads` made, or `asdict`, as `kind`. Raises ValueError as `from_json` does."""
    made: T = _convert(value, kind, "", more)
    return made


def _convert(value: Any, kind: Any, at: str, more: bool) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _object(value, kind, at, more)
    if origin is typing.Literal:
        if any(value == choice and type(value) is type(choice) for choice in inner):
            return value
        raise _wrong(at, "one of " + ", ".join(map(str, inner)), value)
    if origin in (typing.Union, types.UnionType):
        return _one_of(value, inner, at, more)
    if origin in (list, tuple):
        return _row(value, origin, inner, at, more)
    if origin is dict:
        if not isinstance(value, dict):
            raise _wrong(at, "an object", value)
        return {key: _convert(item, inner[1], _under(at, key), more) for key, item in value.items()}
    if kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if kind in _NAMES and kind is not float and type(value) is kind:
        return value
    raise _wrong(at, _NAMES.get(kind, str(kind)), value)


def _object(value: Any, kind: type[Any], at: str, more: bool) -> Any:
    if not isinstance(value, dict):
        raise _wrong(at, "an object", value)
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    for key in value:
        if key not in fields and not more:
            raise ValueError(f"{_under(at, key)}: is nothing that this version knows")
    made = {}
    for name, field in fields.items():
        if name in value:
            made[name] = _convert(value[name], hints[name], _under(at, name), more)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{_under(at, name)}: is missing")
    try:
        return kind(**made)
    except ValueError as error:
        raise ValueError(f"{at}: {error}" if at else str(error)) from None


def _one_of(value: Any, kinds: tuple[Any, ...], at: str, more: bool) -> Any:
    if value is None and type(None) in kinds:
        return None
    error: ValueError | None = None
    for kind in kinds:
        if kind is not type(None):
            try:
                return _convert(value, kind, at, more)
            except ValueError as caught:
                error = error or caught
    raise error or _wrong(at, "null", value)


def _row(value: Any, origin: Any, inner: tuple[Any, ...], at: str, more: bool) -> Any:
    if not isinstance(value, list | tuple):
        raise _wrong(at, "a list", value)
    if origin is list or inner[-1] is Ellipsis:
        kinds = [inner[0]] * len(value)
    else:
        kinds = list(inner)
        if len(value) != len(kinds):
            raise _wrong(at, f"a list of {len(kinds)}", value)
    return origin(
        _convert(item, kind, f"{at}[{number}]", more)
        for number, (item, kind) in enumerate(zip(value, kinds, strict=True))
    )


def _under(at: str, key: str) -> str:
    return f"{at}.{key}" if at else key


def _wrong(at: str, expected: str, value: Any) -> ValueError:
    got = " ".join(json.dumps(value).split())
    got = got if len(got) <= 60 else got[:57] + "…"
    return ValueError(
        f"{at}: {expected} is expected, got {got}" if at else f"{expected} is expected, got {got}"
    )


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")
