"""A row of `cosface bench head`: the case, and what was measured of it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """Which classifier, and how large."""

    rival: str
    classes: int
    embedding_dim: int = 512
    batch_size: int = 64
    ranks: int = 2
    dtype: str = "float32"
    sample_rate: float = 1.0
    workspace_mib: float = 512.0
    threads: int = 1
    of_ranks: int = 0
    """Not 0: one rank's work in a job of so many, the others standing in."""
    peer: str = ""
    """Where a rival that is none of this package is to be found; it is what ratios are to."""

    @property
    def shared_by(self) -> int:
        """The ranks that share the classes."""
        return self.of_ranks or self.ranks

    @property
    def kept_bytes(self) -> int:
        """What the exponentials of a class and all gathered images take."""
        return self.batch_size * self.shared_by * (2 if self.dtype == "bfloat16" else 4)

    @property
    def keeps(self) -> bool:
        """Whether ours has room to keep them for the update, beside its threads' tiles."""
        import torch

        from partial_fc.workspace import keeps_exponentials

        return keeps_exponentials(
            math.ceil(self.classes / self.shared_by * self.sample_rate),
            self.batch_size * self.shared_by,
            self.embedding_dim,
            dtype=getattr(torch, self.dtype),
            threads=self.threads,
            workspace_mib=self.workspace_mib,
        )

    @property
    def name(self) -> str:
        """The row's, without the number of classes."""
        rate = f", rate {self.sample_rate:g}" if self.sample_rate < 1 else ""
        return f"{self.rival} {self.dtype}{rate}{', made again' if not self.workspace_mib else ''}"


@dataclass(frozen=True)
class Measured:
    """What was seen, the slowest and largest of the ranks."""

    step_s: float
    """The median step."""
    extra_mib: float
    """Peak memory of a rank over that before, less centres and momentum."""
    wire_bytes: int
    """Sent by a rank in a step; 0 where it is not counted."""
    floor_s: float
    """The step's three matrix products alone, at the machine's best."""
    memory_s: float
    """What a step cannot but move, at the memory's speed: centres read by the forward pass, centres and
    momentum read and written by the update, exponentials written and read where they are kept."""
    loss: float
    """The first step's."""


@dataclass(frozen=True)
class Row:
    """A case and what was measured, or why it was not."""

    case: Case
    measured: Measured | None
    problem: str = ""
