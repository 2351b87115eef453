"""Every command's options with type and default, frozen in options.txt: none slips in, or changes, unseen.

After a change that is meant:  python -m tests.launch.test_options > tests/launch/options.txt
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import types
import typing
from collections.abc import Iterator
from pathlib import Path

from launch.bench.commands import BENCHMARKS
from launch.cli import COMMANDS
from launch.demo import DemoOptions
from launch.job import LocalOptions
from trainer.settings import Config

FROZEN = Path(__file__).with_name("options.txt")
# Commands that take words, and what they make of them.
KINDS: dict[str, dict[str, type]] = {
    "train": {"train": Config},
    "launch": {"launch local": LocalOptions},
    "bench": {
        f"bench {name}": getattr(importlib.import_module(module), kind)
        for name, (module, kind, _) in BENCHMARKS.items()
    },
}


def options_of(command: str) -> dict[str, type]:
    """The options classes of a command, by what is typed."""
    if command in KINDS:
        return KINDS[command]
    where = COMMANDS[command]
    function = getattr(importlib.import_module(where.module), where.function)
    parameter = next(iter(inspect.signature(function).parameters))
    return {command: typing.get_type_hints(function)[parameter]}


def lines(kind: type, prefix: str = "") -> Iterator[str]:
    """`--section.name: type = default` for each option of a dataclass."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name, hint = prefix + field.name.replace("_", "-"), hints[field.name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            yield from lines(hint, name + ".")
            continue
        default = "" if field.default is dataclasses.MISSING else f" = {field.default!r}"
        yield f"--{name}: {told(hint)}{default}"


def told(hint: object) -> str:
    """A type as it is written, without the names of modules; the same on every Python."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " | ".join(map(told, typing.get_args(hint)))
    if isinstance(hint, type) and not typing.get_origin(hint):
        return "None" if hint is types.NoneType else hint.__name__
    return str(hint).replace("typing.", "").replace("pathlib.", "")


def listing() -> str:
    """The text of options.txt."""
    kinds = {name: kind for command in COMMANDS for name, kind in options_of(command).items()}
    kinds["python -m launch.demo"] = DemoOptions
    titles = {name: name if name.startswith("python") else f"cosface {name}" for name in kinds}
    return "\n".join(
        f"{titles[name]}\n" + "".join(f"  {line}\n" for line in lines(kinds[name])) for name in kinds
    )


def test_the_options_are_those_of_the_list() -> None:
    stated, now = FROZEN.read_text(encoding="utf-8").splitlines(), listing().splitlines()
    assert now == stated, f"another list of options: see {FROZEN.name} in {Path(__file__).name}"


def test_every_command_is_in_the_list() -> None:
    text = FROZEN.read_text(encoding="utf-8")
    assert all(f"cosface {command}" in text for command in COMMANDS)
    assert all(
        dataclasses.is_dataclass(kind) for command in COMMANDS for kind in options_of(command).values()
    )
    assert "  --optim.lr: float | None = None\n" in text


if __name__ == "__main__":
    print(listing(), end="")
