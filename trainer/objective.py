"""What a run minimises: the head's loss, the auxiliary loss, or their sum, on the same embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from partial_fc import PartialFC
from trainer.classifier import make_head
from trainer.losses import AuxiliaryLoss, make_auxiliary
from trainer.settings import Config, HeadConfig

_AUXILIARY = "auxiliary_"


@dataclass(frozen=True)
class Loss:
    """A batch's loss on all ranks together, the same on each; `auxiliary` is its weighted part of `total`."""

    total: Tensor
    auxiliary: Tensor | None


@dataclass
class Objective:
    """The head and the auxiliary loss of a run, one of which may be missing."""

    head: PartialFC | None
    auxiliary: AuxiliaryLoss | None
    weight: float
    """Of the auxiliary loss in the sum."""
    settings: HeadConfig

    def __call__(self, embeddings: Tensor, labels: Tensor) -> Loss:
        """embeddings: [batch, dim] float32; labels: [batch] int64. Backward of `total` does for both."""
        auxiliary = None if self.auxiliary is None else self.weight * self.auxiliary(embeddings, labels)
        head = None if self.head is None else self.head(embeddings, labels)
        parts = [part for part in (head, auxiliary) if part is not None]
        return Loss(torch.stack(parts).sum(), auxiliary)

    def step(self, lr: float) -> None:
        """Move class centres and whatever else the losses hold."""
        if self.head is not None:
            self.head.step(lr * self.settings.lr_factor)
        if self.auxiliary is not None:
            self.auxiliary.step()

    @property
    def class_range(self) -> tuple[int, int]:
        """(first, last) classes that this rank holds something of; (0, 0) if the losses hold nothing."""
        holder = self.head or self.auxiliary
        return holder.class_range if holder else (0, 0)

    def sharded_state(self) -> dict[str, Tensor]:
        """This rank's tensors, as views; row j of each belongs to class `class_range[0] + j`."""
        head = {} if self.head is None else self.head.sharded_state()
        auxiliary = {} if self.auxiliary is None else self.auxiliary.sharded_state()
        return head | {_AUXILIARY + name: tensor for name, tensor in auxiliary.items()}

    @property
    def margin_state(self) -> dict[str, float]:
        """What the head's margin remembers of the batches so far."""
        return {} if self.head is None else self.head.margin_state

    def go_on_from(self, step: int, margin_state: dict[str, float]) -> None:
        """Take over what a checkpoint says beside the tensors."""
        if self.head is not None:
            self.head.steps_taken = step
            known = self.head.margin_state
            self.head.margin_state = {name: margin_state.get(name, known[name]) for name in known}

    def run_until(self, total_steps: int) -> None:
        """Plan for a run of so many steps."""
        settings = self.settings
        if self.head is not None and settings.full_steps:
            first = total_steps - settings.full_steps
            self.head.sample_rate = lambda step: 1.0 if step >= first else settings.sample_rate


def make_objective(config: Config, num_classes: int, device: torch.device) -> Objective:
    """The losses of the settings, what they hold of this rank's classes on the device."""
    head = None if config.head.loss == "none" else make_head(config, num_classes, device)
    auxiliary = make_auxiliary(config.auxiliary, num_classes, config.model.embedding_dim, device)
    return Objective(head, auxiliary, config.auxiliary.factor, config.head)
