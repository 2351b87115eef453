"""A loss from the settings: four of its options are settings of [head], the others stand in `head.options`.

What a loss has, with ranges and defaults, is declared in its class (partial_fc/margins/options.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from partial_fc import MARGINS, Margin, make_margin
from partial_fc.errors import HeadInputError
from partial_fc.margins import Option, options_of
from trainer.errors import SettingsError, TrainerInputError
from trainer.settings import HeadConfig

SETTINGS = {
    "scale": "scale",
    "margin": "margin",
    "centres_per_class": "sub-centers",
    "filter_above": "filter-above",
}
"""Options that are settings of their own, by their names in the class."""
_TRUTHS = {"true": True, "false": False}


def loss_options(loss: str) -> dict[str, Option]:
    """What a run can tell a loss, by the option's name in its class."""
    kind = MARGINS[loss]
    found = options_of(kind)
    if not kind.is_published_with_scale:
        del found["scale"]
    return found


def written(option: Option) -> str:
    """How an option is given on the command line, without its value."""
    return f"--head.{SETTINGS[option.name]} " if option.name in SETTINGS else f"--head.options {option.name}="


def make_loss(head: HeadConfig) -> Margin:
    """The loss of the settings. Raises TrainerInputError naming a setting that it has not or its range."""
    options = loss_options(head.loss)
    given: dict[str, object] = {
        name: value
        for name, setting in SETTINGS.items()
        if (value := getattr(head, setting.replace("-", "_"))) not in (None, _default(setting))
    }
    for name in given:
        if name not in options:
            raise TrainerInputError(f"--head.{SETTINGS[name]}: {_has_none(head.loss, name, options)}")
    further = _further_options(head, options)
    try:
        return make_margin(head.loss, **given, **further)
    except HeadInputError as error:
        name, _, rest = str(error).partition(" ")
        if name in given:
            raise TrainerInputError(f"--head.{SETTINGS[name]} {rest} for {head.loss}") from None
        raise TrainerInputError(f"--head.options: {error}") from None


def refuse_loss_options(argv: Sequence[str], where: str = "") -> None:
    """Raise SettingsError for an option of a loss that is written as if it were a setting: `--head.m2`."""
    for word in argv:
        section, _, name = word.partition("=")[0].partition(".")
        name = name.replace("-", "_")
        if section == "--head" and name not in HeadConfig.__dataclass_fields__:
            losses = [loss for loss in MARGINS if name in loss_options(loss)]
            if losses and name not in SETTINGS:
                raise SettingsError(
                    f"unknown setting --head.{name}{where}; it is an option of {', '.join(losses)}: "
                    f"--head.options {name}=…"
                )


def _default(setting: str) -> object:
    return HeadConfig.__dataclass_fields__[setting.replace("-", "_")].default


def _has_none(loss: str, name: str, options: dict[str, Option]) -> str:
    """Why a loss has not the option of this name, and what is meant instead."""
    meant = [f"{option.name}=…" for option in options.values() if option.is_margin]
    if name == "margin" and meant:
        return f"{loss} has none of that name; its margins are --head.options {' '.join(meant)}"
    if name in ("margin", "scale"):
        return f"{loss} has none; `cosface losses` lists what each loss has"
    return f"{loss} is no loss on normalised cosines, it has none"


def _further_options(head: HeadConfig, options: dict[str, Option]) -> dict[str, object]:
    """`--head.options` by name, of the types that the loss wants."""
    own = {name: option for name, option in options.items() if name not in SETTINGS}
    found: dict[str, object] = {}
    for text in head.options:
        name, equals, value = text.partition("=")
        if name not in own or not equals:
            known = f"{head.loss} has {', '.join(sorted(own))}" if own else f"{head.loss} has none"
            if name in SETTINGS:
                known += f"; {name} is a setting of its own, --head.{SETTINGS[name]}"
            raise TrainerInputError(f"--head.options: expected NAME=VALUE, got {text!r}; {known}")
        kind: Any = own[name].type
        try:
            found[name] = _TRUTHS[value.lower()] if kind is bool else kind(value)
        except (KeyError, ValueError):
            expected = {bool: "True or False", int: "a whole number", float: "a number"}[kind]
            raise TrainerInputError(f"--head.options {name}: expected {expected}, got {value!r}") from None
    return found
