"""Losses that are not a margin softmax, over the images of all ranks: contrastive, triplet, center."""

from __future__ import annotations

from trainer.losses.auxiliary import AuxiliaryLoss
from trainer.losses.center import CenterLoss
from trainer.losses.choice import make_auxiliary
from trainer.losses.settings import AuxiliaryConfig

__all__ = ["AuxiliaryConfig", "AuxiliaryLoss", "CenterLoss", "make_auxiliary"]
