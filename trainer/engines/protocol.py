"""What the loop asks of an engine; it knows none."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor, nn


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
