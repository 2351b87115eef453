"""Booleans as a person writes them: `--fresh`, `--no-fresh`, `--fresh True`, `--fresh=false`.

A section's are negated in front of either part: `--data.augment.no-flip` or `--no-data.augment.flip`. All
become the long form, a name and True or False, which TOML files have too.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping, Sequence

import tyro

from trainer.errors import SettingsError

VALUES = {"true": "True", "false": "False"}
_POSITIONAL = typing.get_args(tyro.conf.Positional[int])[1]


def boolean_settings(cls: type, prefix: str = "") -> dict[str, bool]:
    """Names of a dataclass's boolean settings, as written after `--`; whether each may be None as well."""
    hints = typing.get_type_hints(cls)
    found: dict[str, bool] = {}
    for field in dataclasses.fields(cls):
        name = prefix + field.name.replace("_", "-")
        hint = hints[field.name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            found |= boolean_settings(hint, name + ".")
        elif hint is bool:
            found[name] = False
        elif isinstance(hint, types.UnionType) and set(hint.__args__) == {bool, types.NoneType}:
            found[name] = True
    return found


def has_positional(cls: type) -> bool:
    """Whether some of a dataclass's settings are words without a name."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return any(_POSITIONAL in getattr(hint, "__metadata__", ()) for hint in hints.values())


def with_values(cls: type, argv: Sequence[str], bare: bool = True) -> list[str]:
    """`argv` with every boolean as `--name True` or `--name False`, all else as it is.

    bare: whether a name alone stands for True; in a file it does not. The word after a name is its value if
    it is true or false in any case, or if no other word without a name is expected. Raises SettingsError for
    another value.
    """
    booleans = boolean_settings(cls)
    greedy = not has_positional(cls)
    return list(_with_values(list(argv), booleans, bare, greedy))


def as_flags(cls: type, words: Sequence[str]) -> list[str]:
    """What `with_values` gave, with tyro's two flags for a boolean: `--section.name`, `--section.no-name`."""
    flags = {f"--{name}" for name, optional in boolean_settings(cls).items() if not optional}
    found: list[str] = []
    at = 0
    while at < len(words):
        if words[at] == "--":
            return found + list(words[at:])
        if words[at] in flags:
            found.append(words[at] if words[at + 1] == "True" else _negated(words[at]))
            at += 1
        else:
            found.append(words[at])
        at += 1
    return found


def _with_values(words: list[str], booleans: Mapping[str, bool], bare: bool, greedy: bool) -> Iterator[str]:
    negated = {_negated(f"--{name}")[2:]: name for name in booleans}
    negated |= {f"no-{name}": name for name in booleans}
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word == "--":
            yield from words[at - 1 :]
            return
        name, equals, value = word.removeprefix("--").partition("=")
        name = name.replace("_", "-")
        following = words[at] if at < len(words) else None
        if not word.startswith("--") or (name not in booleans and name not in negated):
            yield word
        elif name in negated and name not in booleans:
            if equals or (following or "").lower() in VALUES:
                raise SettingsError(f"--{name} takes no value, got {value if equals else following!r}")
            yield from (f"--{negated[name]}", "False")
        else:
            if not equals and following is not None and _is_value(following, booleans[name], greedy):
                value, at = following, at + 1
            elif not equals:
                value = "True" if bare else ""
            yield from (f"--{name}", _checked(name, value, booleans[name]))


def _is_value(word: str, optional: bool, greedy: bool) -> bool:
    return word.lower() in VALUES or (optional and word == "None") or (greedy and not word.startswith("-"))


def _checked(name: str, value: str, optional: bool) -> str:
    if optional and value == "None":
        return value
    if value.lower() not in VALUES:
        allowed = ("None", *VALUES.values()) if optional else VALUES.values()
        raise SettingsError(f"--{name}: {value!r} is none of {', '.join(map(repr, allowed))}")
    return VALUES[value.lower()]


def _negated(flag: str) -> str:
    """tyro's flag for False."""
    section, dot, name = flag.removeprefix("--").rpartition(".")
    return f"--{section}{dot}no-{name}"
