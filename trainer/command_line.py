"""Options dataclasses from the command line, by tyro; whatever is wrong with the line becomes one sentence.

tyro explains a mistake in a box of several lines. Here what it finds is taken from its public surface (the
unknown words that it hands back, the text that it prints) and brought down to the one line that every
command prints before it exits with 2.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import re
import types
import typing
from collections.abc import Sequence

import tyro

from trainer.errors import SettingsError
from trainer.flags import as_flags, with_values

Options = typing.TypeVar("Options")


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


def one_line(box: str, prog: str = "cosface") -> str:
    """What tyro's box of a message says, as one sentence."""
    rows = [row.strip() for row in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines() if row.strip()]
    # A box of lines has its title in the border, one in ASCII as the first of the parts between rules.
    titled = not rows or not rows[0].startswith("╭")
    parts: list[list[str]] = [[]]
    for row in (row.strip("│ ") for row in rows if row[0] not in "╭╰"):
        if set(row) <= set("─-"):
            parts.append([])
        else:
            parts[-1].append(row)
    # Title, message, help.
    text = " ".join(parts[1] if titled and len(parts) > 1 else parts[0])
    text = text.partition(" Got errors:")[0].rstrip(". ")
    if text.startswith("Missing from"):
        missing = re.findall(r"--[\w.-]+", text.partition(":")[2])
        named = ", ".join(dict.fromkeys(missing)) or text.partition(":")[2].split()[0]
        return f"{named} must be given; `{prog} --help` explains it"
    if match := re.match(
        r"Error parsing (\S+): no type matching (.+) could be instantiated from (.+)$", text
    ):
        name, expected, found = match.groups()
        return f"{name}: expected {_plain(expected)}, got {_plain(found)}"
    if match := re.match(r"Error parsing (--\S+): (.+)$", text):
        return f"{match[1]}: {_number_wanted(match[2])}"
    if match := re.match(r"Error parsing ([\w.-]+): (\w+)( .+)$", text):
        return sentence(match[1], match[2] + match[3])
    if match := re.match(r"invalid choice '(.*)' for argument '(.+?)'\. Expected one of \((.+?),?\)$", text):
        return f"{match[2]}: {match[1]!r} is none of {match[3]}"
    if match := re.match(r"Missing value for argument '(.+?)'\. Expected (\d+) values", text):
        return f"{match[1]} needs {match[2]} value{'' if match[2] == '1' else 's'}"
    return text


def sentence(section: str, complaint: str) -> str:
    """A section's own complaint ("margin must be …") with the setting written as the user writes it.

    section: its name, or that of the options' class, which the user does not write.
    """
    first, _, rest = complaint.partition(" ")
    prefix = "" if section[:1].isupper() else f"{section}."
    return f"--{prefix}{first.replace('_', '-')} {rest}" if rest.startswith("must ") else complaint


def _number_wanted(complaint: str) -> str:
    """Python's own words for a text that is no number, as a person would put them."""
    if match := re.match(r"could not convert string to float: (.+)$", complaint):
        return f"expected a number, got {match[1]}"
    if match := re.match(r"invalid literal for int\(\) with base 10: (.+)$", complaint):
        return f"expected a whole number, got {match[1]}"
    return complaint


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[\[\]{}'\",]", " ", text.replace("|", " or ")).split())
