"""What the loop asks of an engine, and the engines by name."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn

from trainer.engines.ddp import DdpEngine
from trainer.ranks import Ranks
from trainer.schedule import OptimConfig
from trainer.settings import TrainingConfig


class Engine(Protocol):
    """Trains one backbone on all ranks, each with its own images; every rank makes the same calls."""

    def forward(self, images: Tensor) -> Tensor:
        """Images [n, 3, H, W] float32 to embeddings [n, dim] float32 that are differentiable."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Backpropagate; the backbone's gradients are averaged over the ranks."""
        ...

    def step(self, lr: float) -> float | None:
        """Update the weights and forget the gradients; the norm of the gradient where it is clipped."""
        ...

    def evaluating(self) -> AbstractContextManager[nn.Module]:
        """The backbone as it is evaluated: evaluation mode, averaged weights if there are any."""
        ...

    def backbone_tensors(self) -> dict[str, Tensor]:
        """Weights and buffers as `model.…` and their running average as `average.…`."""
        ...

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """The optimiser's state by the weights' names."""
        ...

    def load(self, backbone: Mapping[str, Tensor], optimizer: Mapping[str, Tensor]) -> None:
        """Take over what the two above had returned. Raises TrainerInputError if it does not fit."""
        ...


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
    return {"ddp": DdpEngine}[name](backbone, optim, training, image_size, device, ranks)
