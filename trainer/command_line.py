"""Options dataclasses from the command line, by tyro; whatever is wrong with the line becomes one sentence.

Unknown words are found here, with the nearest name that is known; of what tyro finds itself only the text is
public (tyro_messages.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import types
import typing
from collections.abc import Sequence

import tyro

from trainer.errors import SettingsError
from trainer.flags import as_flags, with_values
from trainer.tyro_messages import must_be_given, one_line, read

Options = typing.TypeVar("Options")


class MissingSettings(SettingsError):
    """Settings without a default that were not given, `names` as they are written on the command line."""

    def __init__(self, names: Sequence[str], prog: str) -> None:
        super().__init__(must_be_given(names, prog))
        self.names = tuple(names)


def parse(
    cls: type[Options],
    argv: Sequence[str],
    *,
    prog: str,
    default: Options | None = None,
    description: str | None = None,
) -> Options:
    """Return the options that `argv` states; of a repeated option the last value counts.

    cls: a dataclass, nested ones become `--section.key`; booleans are written as flags.py says. `--help`
    prints and exits with 0. Raises SettingsError for an unknown, mistyped, missing or out-of-range setting:
    one line that names it.
    """
    words = with_values(cls, argv)
    refuse_unknown(words, setting_names(cls))
    complaint = io.StringIO()
    more: dict[str, typing.Any] = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(complaint):
            options, unknown = tyro.cli(
                cls,
                args=as_flags(cls, words),
                prog=prog,
                description=description,
                return_unknown_args=True,
                **more,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        if missing := read(complaint.getvalue()).missing:
            raise MissingSettings(missing, prog) from None
        raise SettingsError(one_line(complaint.getvalue(), prog)) from None
    if unknown:
        raise SettingsError(f"unexpected {' '.join(map(repr, unknown))}; `{prog} --help` lists the settings")
    return typing.cast(Options, options)


def refuse_unknown(argv: Sequence[str], known: Sequence[str], where: str = "") -> None:
    """Raise SettingsError for the first `--name` in argv that is not known; `where` ends the sentence."""
    accepted = {*known, "help", "help-verbose", "tyro-print-completion", "tyro-write-completion"}
    for word in argv:
        if not word.startswith("--") or word == "--":
            continue
        name = word[2:].partition("=")[0].replace("_", "-")
        if name in accepted:
            continue
        if nearest := nearest_name(name, known):
            raise SettingsError(f"unknown setting --{name}{where}; nearest: --{nearest}")
        raise SettingsError(f"unknown setting --{name}{where}; --help lists the settings")


def nearest_name(name: str, known: Sequence[str]) -> str | None:
    """The known setting most like `name`; its last part alone counts too (`margin` → `head.margin`)."""
    if close := difflib.get_close_matches(name, known, n=1, cutoff=0.6):
        return close[0]
    by_last_part = {key.rpartition(".")[2]: key for key in reversed(known)}
    close = difflib.get_close_matches(name.rpartition(".")[2], list(by_last_part), n=1, cutoff=0.75)
    return by_last_part[close[0]] if close else None


def setting_names(cls: type, prefix: str = "") -> list[str]:
    """The names of all settings of a dataclass as they are written after `--` (positional ones too)."""
    hints = typing.get_type_hints(cls)
    names: list[str] = []
    for field in dataclasses.fields(cls):
        name = prefix + field.name.replace("_", "-")
        kind = section_of(hints[field.name])
        names += [name] if kind is None else setting_names(kind, name + ".")
    return names


def section_of(hint: object) -> type | None:
    """The dataclass that a field holds, None for a plain value."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and not isinstance(hint, types.GenericAlias):
        return hint
    return None
