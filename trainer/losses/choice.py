"""An auxiliary loss from its settings."""

from __future__ import annotations

import importlib
from typing import Any

import torch

from trainer.errors import TrainerInputError
from trainer.losses.auxiliary import AuxiliaryLoss
from trainer.losses.center import CenterLoss
from trainer.losses.settings import OPTIONS, AuxiliaryConfig


def make_auxiliary(
    config: AuxiliaryConfig, num_classes: int, embedding_dim: int, device: torch.device
) -> AuxiliaryLoss | None:
    """The loss of these settings, its centres on the device; None for none. Raises as check_installed."""
    check_installed(config)
    names = {"margin": "negative_margin"} if config.loss == "contrastive" else {}
    given = {option: getattr(config, option) for option in OPTIONS[config.loss]}
    options: dict[str, Any] = {names.get(o, o): value for o, value in given.items() if value is not None}
    if config.loss == "center":
        return CenterLoss(num_classes, embedding_dim, device=device, **options)
    # Late: a run without them needs no pytorch-metric-learning.
    if config.loss == "contrastive":
        from trainer.losses.contrastive import ContrastiveLoss

        return ContrastiveLoss(**options)
    if config.loss == "triplet":
        from trainer.losses.triplet import TripletLoss

        return TripletLoss(**options)
    return None


def check_installed(config: AuxiliaryConfig) -> None:
    """Raise TrainerInputError if the loss needs a package that is not here."""
    if config.loss not in ("contrastive", "triplet"):
        return
    try:
        importlib.import_module("pytorch_metric_learning")
    except ImportError as error:
        raise TrainerInputError(
            f"--auxiliary.loss {config.loss}: needs pytorch-metric-learning ({error}); "
            "install it: pip install 'cosface[metric]'"
        ) from None
