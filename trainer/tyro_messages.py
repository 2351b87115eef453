"""What tyro says of a wrong command line, brought down to one sentence.

tyro explains a mistake in a box of several lines; nothing of what it found is public but that text. Its words
change between minor versions: setup.cfg allows one minor version, and tests/trainer/test_tyro_messages.py has
a run of the real tyro for every rule here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """A box taken apart."""

    text: str
    """The message, without title, borders, help and what tyro tried."""
    usage: str
    """How the argument is written ("--head.size INT INT"), "" where the box does not say."""
    missing: tuple[str, ...]
    """What was not given: `--name` each, or the word that stands for one without a name."""


@dataclass(frozen=True)
class Rule:
    """A message that is known, and what is said instead."""

    pattern: re.Pattern[str]
    say: Callable[[re.Match[str], Message], str]


def one_line(box: str, prog: str = "cosface") -> str:
    """What tyro's box of a message says, as one sentence; an unknown message as it stands."""
    message = read(box)
    if message.missing:
        return must_be_given(message.missing, prog)
    for rule in RULES:
        if match := rule.pattern.match(message.text):
            return rule.say(match, message)
    return message.text


def must_be_given(names: Sequence[str], prog: str) -> str:
    """The sentence for settings that are missing."""
    *others, last = names
    listed = f"{', '.join(others)} and {last}" if others else last
    return f"{listed} must be given; `{prog} --help` explains {'them' if others else 'it'}"


def read(box: str) -> Message:
    """Take tyro's box apart; in lines or in ASCII, of any width."""
    rows = [row.rstrip() for row in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines() if row.strip()]
    # A box of lines has its title in the border, one in ASCII as the first of the parts between rules.
    titled = not rows or not rows[0].startswith("╭")
    parts: list[list[str]] = [[]]
    for row in (row.strip("│").rstrip() for row in rows if row[0] not in "╭╰"):
        if set(row.strip()) <= set("─-"):
            parts.append([])
        else:
            parts[-1].append(row)
    # Title, message, help of the argument, help of the command.
    told, *helps = parts[1:] if titled and len(parts) > 1 else parts
    text = " ".join(row.strip() for row in told).partition(" Got errors:")[0].rstrip(". ")
    usage = helps[0][1].strip() if helps and len(helps[0]) > 1 else ""
    return Message(text, usage, _missing(told) if text.startswith("Missing from") else ())


def _missing(rows: list[str]) -> tuple[str, ...]:
    """The names of a list in which each is followed by its help, further in."""
    first = next(at for at, row in enumerate(rows) if row.endswith(":")) + 1
    indents = [len(row) - len(row.lstrip()) for row in rows]
    places = (at for at in range(first, len(rows)) if indents[at] == indents[first])
    return tuple(dict.fromkeys(rows[at].split()[0] for at in places))


def sentence(section: str, complaint: str) -> str:
    """A section's own complaint ("margin must be …") with the setting written as the user writes it.

    section: its name, or that of the options' class, which the user does not write.
    """
    first, _, rest = complaint.partition(" ")
    prefix = "" if section[:1].isupper() else f"{section}."
    return f"--{prefix}{first.replace('_', '-')} {rest}" if rest.startswith("must ") else complaint


_ONE_NUMBER = {"FLOAT": "a number", "INT": "a whole number"}


def _no_type(match: re.Match[str], message: Message) -> str:
    name, expected, found = match.groups()
    if one := _ONE_NUMBER.get(expected.removeprefix("{None}|")):
        return f"{name}: expected {one}, got {found.strip('[]')}"
    return f"{name}: expected {_plain(expected)}, got {_plain(found)}"


def _no_parse(match: re.Match[str], message: Message) -> str:
    name, found = match.groups()
    expected = message.usage.partition(" ")[2]
    # "[FLOAT [FLOAT ...]]", of which a narrow box has the beginning in this line.
    many = re.match(r"\[(\w+) \[", expected)
    return f"{name}: expected {f'{many[1]} …' if many else _plain(expected)}, got {_plain(found)}"


def _missing_value(match: re.Match[str], message: Message) -> str:
    return f"{match[1]} needs {match[2]} value{'' if match[2] == '1' else 's'}"


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[\[\]{}'\",]", " ", text.replace("|", " or ")).split())


RULES = tuple(
    Rule(re.compile(pattern), say)
    for pattern, say in (
        (r"Error parsing (\S+): no type matching (.+) could be instantiated from (.+)$", _no_type),
        (r"Error parsing (\S+): Could not parse arguments (.+) into tuple type .+$", _no_parse),
        (r"Error parsing (\S+): Could not find valid parse for arguments: (.+)$", _no_parse),
        (
            r"Error parsing (\S+): could not convert string to float: (.+)$",
            lambda match, _: f"{match[1]}: expected a number, got {match[2]}",
        ),
        (
            r"Error parsing (\S+): invalid literal for int\(\) with base 10: (.+)$",
            lambda match, _: f"{match[1]}: expected a whole number, got {match[2]}",
        ),
        # A dataclass's own complaint, behind the name of its section or its class.
        (r"Error parsing ([\w.-]+): (\w+ .+)$", lambda match, _: sentence(match[1], match[2])),
        (
            r"invalid choice '(.*)' for argument '(.+?)'\. Expected one of \((.+?),?\)$",
            lambda match, _: f"{match[2]}: {match[1]!r} is none of {match[3]}",
        ),
        (r"Missing value for argument '(.+?)'\. Expected (\d+) values", _missing_value),
    )
)
