"""Memory for exponentials that a forward pass keeps for the update: one block, used again by every step."""

from __future__ import annotations

import weakref

import torch
from torch import Tensor


class Loan:
    """A part of the arena's memory, taken back when nobody holds the loan any more."""

    def __init__(self, memory: Tensor) -> None:
        self.memory = memory
        """[elements] of the dtype that was asked for."""


class Arena:
    """Lends memory up to a budget; nothing is given back by hand, a forgotten batch frees what it had.

    Pages of a large block that is allocated anew each step cost more than what is written to them.
    """

    def __init__(self, budget_bytes: int, device: torch.device) -> None:
        self._budget = budget_bytes
        self._device = device
        self._block: Tensor | None = None  # lent whole, so that two batches never share one
        self._loans: list[tuple[weakref.ref[Loan], int]] = []

    def lend(self, elements: int, dtype: torch.dtype) -> Loan | None:
        """Memory for so many numbers, or None if the budget does not allow it beside what is lent."""
        self._loans = [(loan, size) for loan, size in self._loans if loan() is not None]
        needed = elements * dtype.itemsize
        if needed + sum(size for _, size in self._loans) > self._budget:
            return None
        if self._loans:
            block = torch.empty(needed, dtype=torch.uint8, device=self._device)
        else:
            if self._block is None or self._block.numel() < needed:
                self._block = None  # the old one goes before the new one comes
                self._block = torch.empty(needed, dtype=torch.uint8, device=self._device)
            block = self._block[:needed]
        loan = Loan(block.view(dtype))
        self._loans.append((weakref.ref(loan), needed))
        return loan
