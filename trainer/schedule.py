"""The learning rate of every step, and the optimiser's settings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class OptimConfig:
    """SGD with momentum, for the backbone and for the class centres, and its learning rate."""

    lr: float | None = None
    """The learning rate at its highest; by default 0.1 for 512 images a step on all ranks together, as in the
    recipe, less in proportion for fewer."""
    momentum: float = 0.9
    """Momentum of both optimisers."""
    weight_decay: float = 5e-4
    """Weight decay of weight matrices and of the classifier; the backbone's biases and norms have none."""
    schedule: Literal["step", "cosine", "constant"] = "step"
    """step: times `decay` at each milestone, as in the paper; cosine: half a cosine down to `final_lr`."""
    milestones: tuple[float, ...] = (16 / 28, 24 / 28)
    """Where the step schedule goes down: below 1 as a part of the run, from 1 on as a step.

    The paper has them at 16,000 and 24,000 of 28,000."""
    decay: float = 0.1
    """The step schedule's factor at each milestone."""
    warmup_steps: int | None = None
    """Steps in which the learning rate rises from nearly nothing, in a straight line; by default 1,000, or a
    tenth of a run that is shorter than 10,000."""
    final_lr: float = 0.0
    """Where the cosine schedule ends."""

    def __post_init__(self) -> None:
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be above 0, got {self.lr:g}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, got {self.momentum:g}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be 0 or more, got {self.weight_decay:g}")
        if not all(0 < milestone < math.inf for milestone in self.milestones):
            raise ValueError(f"milestones must be above 0, got {' '.join(f'{m:g}' for m in self.milestones)}")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay must be above 0 and at most 1, got {self.decay:g}")
        if self.warmup_steps is not None and self.warmup_steps < 0:
            raise ValueError(f"warmup_steps must be 0 or more, got {self.warmup_steps}")
        highest = 0.1 if self.lr is None else self.lr
        if not 0 <= self.final_lr <= highest:
            raise ValueError(f"final_lr must be between 0 and lr ({highest:g}), got {self.final_lr:g}")


def learning_rate(config: OptimConfig, step: int, total_steps: int) -> float:
    """The learning rate of a step, 0 ≤ step < total_steps; a function of its arguments alone.

    config: as trainer.recipe.settled returns it. Raises ValueError if lr or warm-up are left open.
    """
    lr, warmup = config.lr, config.warmup_steps
    if lr is None or warmup is None:
        raise ValueError("lr and warmup_steps are not settled")
    if step < warmup:
        return lr * (step + 1) / warmup
    if config.schedule == "constant":
        return lr
    if config.schedule == "cosine":
        # The last step still learns a little when final_lr is 0: progress is below 1 there.
        progress = (step - warmup) / max(1, total_steps - warmup)
        return config.final_lr + (lr - config.final_lr) * (1 + math.cos(math.pi * progress)) / 2
    starts = (milestone if milestone >= 1 else milestone * total_steps for milestone in config.milestones)
    return lr * config.decay ** sum(step >= start for start in starts)
