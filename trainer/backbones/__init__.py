"""Backbones by name: images to embeddings, their first weights a function of the seed alone."""

from __future__ import annotations

from trainer.backbones.registry import BACKBONES, make_backbone

__all__ = ["BACKBONES", "make_backbone"]
