"""The classifier of a run: its loss and its head, from the settings."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from partial_fc import MARGINS, SGD, AdamW, Margin, Optimiser, PartialFC, make_margin
from partial_fc.errors import HeadInputError
from partial_fc.margins import CosFace, CosineMargin, NormalizedSoftmax
from trainer.errors import TrainerInputError
from trainer.settings import Config, HeadConfig


def make_loss(head: HeadConfig) -> Margin:
    """The loss; margin and scale are for those that have one. Raises TrainerInputError naming the setting."""
    kind = MARGINS[head.loss]
    on_cosines = issubclass(kind, CosineMargin)
    options: dict[str, object] = {}
    if any(field.name == "margin" for field in dataclasses.fields(kind)):
        options["margin"] = head.margin
    if on_cosines:
        options |= {
            "scale": head.scale,
            "filter_above": head.filter_above,
            "centres_per_class": head.sub_centers,
        }
    elif head.sub_centers > 1 or head.filter_above is not None:
        name = "sub-centers" if head.sub_centers > 1 else "filter-above"
        raise TrainerInputError(f"--head.{name}: {head.loss} is no loss on normalised cosines, it has none")
    further = _further_options(head, kind)
    try:
        return make_margin(head.loss, **options, **further)
    except HeadInputError as error:
        option, _, rest = str(error).partition(" ")
        if option in further:
            raise TrainerInputError(f"--head.options: {error}") from None
        if option not in options:
            raise TrainerInputError(f"--head.loss {head.loss}: {error}") from None
        setting = {"centres_per_class": "sub-centers", "filter_above": "filter-above"}.get(option, option)
        raise TrainerInputError(f"--head.{setting} {rest} for {head.loss}") from None


def _further_options(head: HeadConfig, kind: type[Margin]) -> dict[str, object]:
    """`--head.options` by name, of the types that the loss wants."""
    own = {field.name for field in dataclasses.fields(HeadConfig)} | {"centres_per_class"}
    types: dict[str, Any] = {
        field.name: type(field.default) for field in dataclasses.fields(kind) if field.name not in own
    }
    found: dict[str, object] = {}
    for text in head.options:
        name, equals, value = text.partition("=")
        if name not in types or not equals:
            known = f"{head.loss} has {', '.join(sorted(types))}" if types else f"{head.loss} has none"
            raise TrainerInputError(f"--head.options: expected NAME=VALUE, got {text!r}; {known}")
        try:
            found[name] = {"True": True, "False": False}[value] if types[name] is bool else types[name](value)
        except (KeyError, ValueError):
            expected = {bool: "True or False", int: "a whole number", float: "a number"}[types[name]]
            raise TrainerInputError(f"--head.options {name}: expected {expected}, got {value!r}") from None
    return found


def make_head(config: Config, num_classes: int, device: torch.device) -> PartialFC:
    """The head over so many classes, this rank's part of it on the device."""
    head = config.head
    return PartialFC(
        num_classes=num_classes,
        embedding_dim=config.model.embedding_dim,
        margin=make_loss(head),
        sample_rate=head.sample_rate,
        optimiser=_optimiser(config),
        compute_dtype=getattr(torch, head.precision),
        moment_dtype=getattr(torch, head.momentum_precision),
        wire_dtype=getattr(torch, head.wire_precision),
        workspace_mib=head.workspace_mib,
        seed=config.training.seed,
        device=device,
    )


def _optimiser(config: Config) -> Optimiser:
    if config.head.optimizer == "adamw":
        return AdamW(weight_decay=config.optim.weight_decay)
    return SGD(weight_decay=config.optim.weight_decay, momentum=config.optim.momentum)


def theory_warnings(config: Config, num_classes: int) -> list[str]:
    """What theory has against the run's scale and margin, for the losses that it speaks of."""
    if config.head.loss == "none":
        return []
    from partial_fc.bounds import advice  # late: it needs scipy

    loss = make_loss(config.head)
    if not isinstance(loss, CosFace | NormalizedSoftmax):
        return []
    margin = loss.margin if isinstance(loss, CosFace) else 0.0
    return advice(num_classes, config.model.embedding_dim, scale=loss.scale, margin=margin).warnings
