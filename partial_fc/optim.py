"""The optimiser of the class centres, applied to one tile of rows at a time."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from partial_fc.errors import HeadInputError


@dataclass(frozen=True)
class SGD:
    """torch.optim.SGD's momentum and weight decay: v = momentum·v + g + weight_decay·w; w −= lr·v."""

    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise HeadInputError(f"momentum must be in [0, 1), got {self.momentum}")
        if not self.weight_decay >= 0:
            raise HeadInputError(f"weight_decay must be at least 0, got {self.weight_decay}")


def sgd_update(weight: Tensor, velocity: Tensor, gradient: Tensor, lr: float, sgd: SGD) -> None:
    """Move `weight` and `velocity` in place; all three of one shape."""
    velocity.mul_(sgd.momentum).add_(gradient).add_(weight, alpha=sgd.weight_decay)
    weight.add_(velocity, alpha=-lr)
