"""What a communicator is, and those that need no other rank."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Communicator(Protocol):
    """How ranks exchange tensors. Every rank makes the same calls, in the same order.

    Every call has a deadline: CollectiveError when a rank does not come by then. No call may follow it.
    """

    rank: int
    world_size: int

    def all_gather(self, tensor: Tensor) -> Tensor:
        """tensor: [*shape], the same shape on every rank. Returns [world_size, *shape], in rank order."""
        ...

    def all_to_all(self, tensor: Tensor) -> Tensor:
        """tensor: [world_size, *shape]; row r goes to rank r. Returns the like, row r from rank r."""
        ...


class Patient(Communicator, Protocol):
    """A communicator whose deadline may be set between exchanges."""

    deadline_s: float
    """Seconds that an exchange waits for the other ranks."""


class SingleRank:
    """One rank alone: nothing to exchange."""

    rank = 0
    world_size = 1

    def all_gather(self, tensor: Tensor) -> Tensor:
        """The tensor itself, as the only row."""
        return tensor.unsqueeze(0)

    def all_to_all(self, tensor: Tensor) -> Tensor:
        """The tensor itself: its only row stays."""
        return tensor


class Counting:
    """Another communicator, with the bytes counted that this rank sends to others."""

    def __init__(self, inner: Communicator) -> None:
        self._inner = inner
        self.rank, self.world_size = inner.rank, inner.world_size
        self.sent_bytes = 0
        """So far; set it back at will."""

    def all_gather(self, tensor: Tensor) -> Tensor:
        """See Communicator. Every other rank gets the tensor."""
        self.sent_bytes += tensor.numel() * tensor.element_size() * (self.world_size - 1)
        return self._inner.all_gather(tensor)

    def all_to_all(self, tensor: Tensor) -> Tensor:
        """See Communicator. Every other rank gets its row."""
        self.sent_bytes += tensor.numel() * tensor.element_size() // self.world_size * (self.world_size - 1)
        return self._inner.all_to_all(tensor)


class StandIn:
    """The first of `world_size` ranks where there is but one: what it sends comes back as if from the others.

    For measuring one rank's work in a job of any size; what is learnt means nothing.
    """

    rank = 0

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size

    def all_gather(self, tensor: Tensor) -> Tensor:
        """As if every rank had passed in the same."""
        return tensor.unsqueeze(0).expand(self.world_size, *tensor.shape).clone()

    def all_to_all(self, tensor: Tensor) -> Tensor:
        """As if every rank had sent what this one sends it."""
        return tensor
