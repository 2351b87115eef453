"""The classifier of a run: its head, from the settings."""

from __future__ import annotations

import torch

from partial_fc import SGD, AdamW, Optimiser, PartialFC
from partial_fc.margins import CosFace, NormalizedSoftmax
from trainer.loss_options import make_loss
from trainer.settings import Config


def make_head(config: Config, num_classes: int, device: torch.device) -> PartialFC:
    """The head over so many classes, this rank's part of it on the device."""
    head = config.head
    return PartialFC(
        num_classes=num_classes,
        embedding_dim=config.model.embedding_dim,
        margin=make_loss(head),
        sample_rate=head.sample_rate,
        optimiser=head_optimiser(config),
        compute_dtype=getattr(torch, head.precision),
        moment_dtype=getattr(torch, head.momentum_precision),
        wire_dtype=getattr(torch, head.wire_precision),
        workspace_mib=head.workspace_mib,
        seed=config.training.seed,
        device=device,
    )


def head_optimiser(config: Config) -> Optimiser:
    """What moves the class centres."""
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
