"""The backbone of a run's checkpoint, ready to embed images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from trainer.backbones import make_backbone
from trainer.checkpoint import (
    BACKBONE,
    DamagedCheckpoint,
    checkpoint_steps,
    load_tensors,
    read_state,
)
from trainer.errors import TrainerInputError

# A run may remove the checkpoint that is being read; this often in a row it does not.
_TRIES = 5


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

    The running average of the weights is taken where the run kept one. The file's checksum is compared.
    If the run removes the newest checkpoint meanwhile, having written newer ones, the newest is taken anew.
    Raises TrainerInputError: no run, no such checkpoint, a damaged one.
    """
    for _ in range(_TRIES):
        checkpoint = _find(run, step)
        try:
            return _load(checkpoint, device)
        except DamagedCheckpoint as error:
            if checkpoint.is_dir():
                raise _with_advice(run, checkpoint, error) from None
            if step is not None:
                raise TrainerInputError(
                    f"{checkpoint}: was removed while it was read; a run keeps its newest --checkpoint.keep"
                ) from None
    raise TrainerInputError(
        f"{run}: its newest checkpoint was removed {_TRIES} times while it was read; raise --checkpoint.keep"
    )


def _load(checkpoint: Path, device: torch.device) -> LoadedBackbone:
    state = read_state(checkpoint)
    tensors = load_tensors(checkpoint / BACKBONE, state.files.get(BACKBONE))
    trained, average = (
        {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        for prefix in ("model.", "average.")
    )
    model = state.model
    try:
        module = make_backbone(model.backbone, model.embedding_dim, model.image_size, seed=0)
        module.load_state_dict({**trained, **average}, strict=True)
    except (KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise TrainerInputError(
            f"{checkpoint}: does not fit the backbone {model.backbone} of this version: {reason}"
        ) from None
    module.eval().to(device)
    return LoadedBackbone(module, model.image_size, model.backbone, state.step, bool(average))


def _with_advice(run: Path, checkpoint: Path, error: DamagedCheckpoint) -> TrainerInputError:
    others = [str(at) for at, folder in checkpoint_steps(run).items() if folder != checkpoint]
    advice = f"; --step {others[-1]} evaluates another one" if others else ""
    return TrainerInputError(f"{error}{advice}")


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
