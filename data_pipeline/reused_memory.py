"""Tensors of one shape for batch after batch; memory that nobody holds any more is handed out again.

Fresh memory for a large batch costs three times the copy into it, as the kernel maps it page by page.
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt
import torch

_REUSED = 3


class ReusedMemory:
    """float32 tensors of up to `shape[0]` images; on the CPU from a few arrays, elsewhere new ones."""

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        self._shape, self._device = shape, device
        self._arrays: list[npt.NDArray[np.float32]] = []
        # What an array counts that the list alone holds: interpreters differ.
        self._unheld = _holders([np.empty(0, dtype=np.float32)])[0]

    def take(self, count: int) -> torch.Tensor:
        """A tensor of `count` images, its content anything."""
        if self._device.type != "cpu":
            return torch.empty((count, *self._shape[1:]), device=self._device)
        # A tensor made from an array holds it, and so does every view of that tensor.
        for place, holders in enumerate(_holders(self._arrays)):
            if holders == self._unheld:
                return torch.from_numpy(self._arrays[place][:count])
        # More than a few at once are kept by the caller; those go when the caller lets go of them.
        array = np.empty(self._shape, dtype=np.float32)
        if len(self._arrays) < _REUSED:
            self._arrays.append(array)
        return torch.from_numpy(array[:count])


def _holders(arrays: list[npt.NDArray[np.float32]]) -> list[int]:
    return [sys.getrefcount(array) for array in arrays]
