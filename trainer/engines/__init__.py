"""Engines: how the backbone is trained data-parallel."""

from __future__ import annotations

from trainer.engines.protocol import Engine
from trainer.engines.registry import make_engine

__all__ = ["Engine", "make_engine"]
