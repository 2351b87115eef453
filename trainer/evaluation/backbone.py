"""The backbone of a run's checkpoint, ready to embed images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from trainer.backbones import make_backbone
from trainer.checkpoint import BACKBONE, checkpoint_steps, load_tensors, read_state
from trainer.errors import TrainerInputError


@dataclass(frozen=True)
class LoadedBackbone:
    """A trained network in evaluation mode and where it comes from."""

    module: nn.Module
    image_size: tuple[int, int]
    """(H, W) of the images that it takes."""
    name: str
    """The backbone's name in the table of backbones."""
    step: int
    """Training steps done."""
    averaged: bool
    """Whether the weights are the running average that the run kept, not those of its last step."""

    def describe(self) -> str:
        """Network, input and weights in a few words."""
        weights = "averaged weights" if self.averaged else "weights"
        height, width = self.image_size
        return f"{self.name}, {height}×{width}, {weights} of step {self.step}"


def load_backbone(run: Path, device: torch.device, step: int | None = None) -> LoadedBackbone:
    """The backbone of the run's checkpoint of ``step``, of its newest one if None, on ``device``.

    The running average of the weights is taken where the run kept one.
    Raises TrainerInputError: no run, no such checkpoint, a damaged one.
    """
    checkpoint = _find(run, step)
    state = read_state(checkpoint)
    tensors = load_tensors(checkpoint / BACKBONE, "model.")
    average = load_tensors(checkpoint / BACKBONE, "average.")
    model = state.model
    try:
        module = make_backbone(model.backbone, model.embedding_dim, model.image_size, seed=0)
        module.load_state_dict({**tensors, **average}, strict=True)
    except (KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise TrainerInputError(
            f"{checkpoint}: does not fit the backbone {model.backbone} of this version: {reason}"
        ) from None
    module.eval().to(device)
    return LoadedBackbone(module, model.image_size, model.backbone, state.step, bool(average))


def _find(run: Path, step: int | None) -> Path:
    if not run.is_dir():
        raise TrainerInputError(f"{run}: is no folder; expected the folder of a training run")
    steps = checkpoint_steps(run)
    if not steps:
        raise TrainerInputError(f"{run}: has no finished checkpoint in {run / 'checkpoints'}; train it first")
    if step is None:
        return steps[max(steps)]
    if step not in steps:
        have = ", ".join(map(str, steps))
        raise TrainerInputError(f"{run}: has no checkpoint of step {step}; there are those of steps {have}")
    return steps[step]
