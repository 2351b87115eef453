"""The engines by name, imported when they are made: each brings in what it is built on."""

from __future__ import annotations

import importlib
from typing import cast

import torch
from torch import nn

from trainer.engines.protocol import Engine
from trainer.ranks import Ranks
from trainer.schedule import OptimConfig
from trainer.settings import TrainingConfig

ENGINES = {"ddp": ("trainer.engines.ddp", "DdpEngine")}
"""Module and class of each."""


def make_engine(
    name: str,
    backbone: nn.Module,
    optim: OptimConfig,
    training: TrainingConfig,
    image_size: tuple[int, int],
    device: torch.device,
    ranks: Ranks,
) -> Engine:
    """The engine of this name around a backbone, which goes to the device. Raises KeyError."""
    module, kind = ENGINES[name]
    make = getattr(importlib.import_module(module), kind)
    return cast(Engine, make(backbone, optim, training, image_size, device, ranks))
