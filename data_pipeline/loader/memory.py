"""Tensors of one shape for batch after batch; memory that nobody holds any more is handed out again.

Fresh memory for a large batch costs three times the copy into it, as the kernel maps it page by page. The
memory of a tensor, and of every view of it, holds the array that the tensor was made from: while a weak
reference to that array gives it back, somebody may still read the batch, on any interpreter.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

_REUSED = 3
Floats = npt.NDArray[np.float32]


@dataclass
class _Block:
    """memory: all that may be asked for. lent: to the part of it that was handed out last."""

    memory: Floats
    lent: weakref.ref[Floats] | None = None

    @property
    def is_free(self) -> bool:
        """Whether no tensor is left that shares it."""
        return self.lent is None or self.lent() is None

    def lend(self, count: int) -> torch.Tensor:
        """The first `count` images of it."""
        part = self.memory[:count]
        self.lent = weakref.ref(part)
        return torch.from_numpy(part)


class ReusedMemory:
    """float32 tensors of up to `shape[0]` images; on the CPU from a few arrays, elsewhere new ones."""

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        self._shape, self._device = shape, device
        self._blocks: list[_Block] = []

    def take(self, count: int) -> torch.Tensor:
        """A tensor of `count` images, its content anything. It is the caller's for as long as the caller, or
        anybody else, has it or a view of it.
        """
        if self._device.type != "cpu":
            return torch.empty((count, *self._shape[1:]), device=self._device)
        for block in self._blocks:
            if block.is_free:
                return block.lend(count)
        # More than a few at once are kept by the caller; those go when the caller lets go of them.
        block = _Block(np.empty(self._shape, dtype=np.float32))
        if len(self._blocks) < _REUSED:
            self._blocks.append(block)
        return block.lend(count)
