"""Memory for exponentials that a forward pass keeps for the update, used again by every step."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import torch
from torch import Tensor


class Loan:
    """A part of the arena's memory, taken back when nobody holds the loan any more."""

    def __init__(self, memory: Tensor) -> None:
        self.memory = memory
        """[elements] of the dtype that was asked for."""


@dataclass
class _Block:
    memory: Tensor
    loan: weakref.ref[Loan]


class Arena:
    """Lends memory up to a budget; nothing is given back by hand, a forgotten batch frees what it had.

    Pages of a large block that is allocated anew each step cost more than what is written to them, so blocks
    stay for who asks next.
    """

    def __init__(self, budget_bytes: int, device: torch.device) -> None:
        self._budget = budget_bytes
        self._device = device
        self._blocks: list[_Block] = []  # never more than the budget, lent or not

    def lend(self, elements: int, dtype: torch.dtype, beside: int = 0) -> Loan | None:
        """Memory for so many numbers, or None if the budget does not allow it beside what is lent.

        beside: bytes of the same budget that a pass needs for itself.
        """
        needed = elements * dtype.itemsize
        idle = [block for block in self._blocks if block.loan() is None]
        fitting = [block for block in idle if block.memory.numel() >= needed]
        if fitting:
            block = min(fitting, key=lambda one: one.memory.numel())
            loan = Loan(block.memory[:needed].view(dtype))
            block.loan = weakref.ref(loan)
            return loan
        lent = [block for block in self._blocks if block.loan() is not None]
        if needed + beside + sum(block.memory.numel() for block in lent) > self._budget:
            return None
        self._blocks = lent  # what is idle is too small, and goes before the new block comes
        memory = torch.empty(needed, dtype=torch.uint8, device=self._device)
        loan = Loan(memory.view(dtype))
        self._blocks.append(_Block(memory, weakref.ref(loan)))
        return loan
