"""`cosface losses`: what each loss is and what it can be told, made from the losses' own classes."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from trainer.command_line import nearest_name
from trainer.errors import SettingsError

_KINDS = {bool: "BOOL", int: "INT", float: "FLOAT", str: "WORD"}


@dataclass(frozen=True)
class LossesOptions:
    """Lists the losses of --head.loss: formula and paper; with a name, all that the loss can be told."""

    name: Annotated[Positional[str], arg(metavar="[NAME]")] = "all"
    """A loss, or all: every one in turn."""


def losses(options: LossesOptions) -> int:
    """`cosface losses`: 0. Raises SettingsError for a name that is none."""
    from partial_fc import MARGINS

    if options.name in MARGINS:
        print(described(options.name))
        return 0
    if options.name != "all":
        nearest = nearest_name(options.name, list(MARGINS))
        hint = f"did you mean {nearest}?" if nearest else f"there are {', '.join(MARGINS)}"
        raise SettingsError(f"unknown loss {options.name!r}: {hint}")
    print("\n\n".join(map(described, MARGINS)))
    print(f"\n{beside_a_head()}")
    return 0


def described(loss: str) -> str:
    """A loss's class in words, then a line an option: how it is given, its range, its default, what it is."""
    from partial_fc import MARGINS
    from trainer.loss_options import SETTINGS, loss_options, written

    options = loss_options(loss)
    rows = [
        (f"{written(one)}{_KINDS[one.type]}", one.range(), _shown(one.default), one.meaning)
        for one in options.values()
    ]
    absent = [f"--head.{setting}" for name, setting in SETTINGS.items() if name not in options]
    lines = [loss, *(f"  {line}".rstrip() for line in (inspect.getdoc(MARGINS[loss]) or "").splitlines())]
    for given, limits, default, meaning in rows:
        lines += [f"    {given:34}  {limits}; {default} by default", f"        {meaning}"]
    return "\n".join([*lines, *([f"  {loss} has no {', '.join(absent)}"] if absent else [])])


def beside_a_head() -> str:
    """The auxiliary losses and their settings, in a line each."""
    from trainer.losses.settings import OPTIONS

    lines = [
        "--auxiliary.loss, beside one of these or with --head.loss none; `cosface train --help` explains:"
    ]
    for name, options in OPTIONS.items():
        settings = " ".join(f"--auxiliary.{option.replace('_', '-')}" for option in ("weight", *options))
        lines += [] if name == "none" else [f"  {name:12} {settings}"]
    return "\n".join(lines)


def _shown(default: object) -> str:
    return "off" if default is None else str(default)
