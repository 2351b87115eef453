"""The exchanges between ranks that the head needs: two collectives, everything else is built from them."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from partial_fc.errors import CollectiveError

# torch 2.13 gave it a new name and warns of the old one, on every rank's standard error.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


class Communicator(Protocol):
    """How ranks exchange tensors. Every rank makes the same calls, in the same order."""

    rank: int
    world_size: int

    def all_gather(self, tensor: Tensor) -> Tensor:
        """tensor: [*shape], the same shape on every rank. Returns [world_size, *shape], in rank order."""
        ...

    def all_to_all(self, tensor: Tensor) -> Tensor:
        """tensor: [world_size, *shape]; row r goes to rank r. Returns the like, row r from rank r."""
        ...


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


class TorchDistributed:
    """torch.distributed over any process group; the group's timeout is the deadline of every exchange."""

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group = group
        self.rank = dist.get_rank(group)
        self.world_size = dist.get_world_size(group)

    def all_gather(self, tensor: Tensor) -> Tensor:
        """See Communicator. Raises CollectiveError when a rank does not come in time."""
        gathered = tensor.new_empty((self.world_size, *tensor.shape))
        try:
            # Flat views: gloo takes the concatenated layout only, nccl takes both.
            _all_gather(gathered.view(-1), tensor.contiguous().view(-1), group=self._group)
        except RuntimeError as error:
            raise self._failed("all-gather", error) from error
        return gathered

    def all_to_all(self, tensor: Tensor) -> Tensor:
        """See Communicator. Raises CollectiveError when a rank does not come in time."""
        received = torch.empty_like(tensor, memory_format=torch.contiguous_format)
        try:
            dist.all_to_all_single(received, tensor.contiguous(), group=self._group)
        except RuntimeError as error:
            raise self._failed("all-to-all", error) from error
        return received

    def _failed(self, exchange: str, error: RuntimeError) -> CollectiveError:
        return CollectiveError(
            f"rank {self.rank} of {self.world_size}: the {exchange} of the head failed, "
            f"a rank is gone or did not come in time: {str(error).splitlines()[0]}"
        )


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


def default_communicator() -> Communicator:
    """torch.distributed's default group if it is initialised, else one rank alone."""
    if dist.is_available() and dist.is_initialized():
        return TorchDistributed()
    return SingleRank()
