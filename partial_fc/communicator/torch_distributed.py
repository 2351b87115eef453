"""Exchanges over torch.distributed."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import distributed_c10d

from partial_fc.communicator.base import Communicator, SingleRank
from partial_fc.communicator.presence import LOOK_EVERY_S, Presence

# torch 2.13 gave it a new name and warns of the old one, on every rank's standard error.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_KEY = "partial_fc/failed"
"""Within the group's own part of the store."""


class TorchDistributed:
    """torch.distributed over any process group.

    group: the default one if not given; ranks are the group's. deadline_s: seconds that an exchange of CPU
    tensors waits, at most the group's timeout, which it is if not given; may be set between exchanges.
    user: whose exchanges these are, as messages call it.

    An exchange of CPU tensors that fails names the ranks that did not come. One of CUDA tensors only
    enqueues: nccl's own watchdog ends the process at the group's timeout.
    """

    def __init__(
        self,
        group: dist.ProcessGroup | None = None,
        *,
        deadline_s: float | None = None,
        user: str = "the head",
    ) -> None:
        self._group = group
        self.rank = dist.get_rank(group)
        self.world_size = dist.get_world_size(group)
        self.deadline_s = math.inf if deadline_s is None else deadline_s
        self._presence = Presence(self.rank, self.world_size, _StoreBoard.of_group(group), user)

    def all_gather(self, tensor: Tensor) -> Tensor:
        """See Communicator. Raises CollectiveError when a rank does not come in time."""
        gathered = tensor.new_empty((self.world_size, *tensor.shape))
        # Flat views: gloo takes the concatenated layout only, nccl takes both.
        self._exchange("all-gather", _all_gather, gathered.view(-1), tensor.contiguous().view(-1))
        return gathered

    def all_to_all(self, tensor: Tensor) -> Tensor:
        """See Communicator. Raises CollectiveError when a rank does not come in time."""
        received = torch.empty_like(tensor, memory_format=torch.contiguous_format)
        self._exchange("all-to-all", dist.all_to_all_single, received, tensor.contiguous())
        return received

    def _exchange(self, name: str, collective: Callable[..., Any], received: Tensor, sent: Tensor) -> None:
        on_cpu = sent.device.type == "cpu"
        self._presence.begin()
        try:
            work = collective(received, sent, group=self._group, async_op=True)
            if on_cpu:
                self._wait(work)
            work.wait()
        except RuntimeError as error:
            raise self._presence.failure(name, error, looked=on_cpu) from error

    def _wait(self, work: dist.Work) -> None:
        """Return when the work is done, well or not: gloo sees to the group's timeout by itself."""
        with suppress(RuntimeError):
            work.wait(self._slice())
        while not work.is_completed():
            if self._presence.waited_s >= self.deadline_s:
                raise RuntimeError(f"not done within the deadline of {self.deadline_s:g} s")
            if self._presence.given_up():
                raise RuntimeError("another rank has given up")
            with suppress(RuntimeError):
                work.wait(self._slice())

    def _slice(self) -> timedelta:
        left_s = self.deadline_s - self._presence.waited_s
        return timedelta(seconds=min(LOOK_EVERY_S, max(left_s, 0.01)))


class _StoreBoard:
    """The process group's own store, which torch keeps beside the connections of its ranks."""

    holder = (
        "the process group's store, whose holder (rank 0 of the job, or torchrun's agent) does not answer"
    )

    def __init__(self, store: distributed_c10d.Store) -> None:
        self._store = store

    @classmethod
    def of_group(cls, group: dist.ProcessGroup | None) -> _StoreBoard | None:
        store = distributed_c10d._get_process_group_store(group or distributed_c10d._get_default_group())
        return None if store is None else cls(store)

    def post(self, rank: int, exchange: int) -> None:
        self._store.append(_KEY, f"{rank}:{exchange} ")  # type: ignore[attr-defined]

    def is_empty(self) -> bool:
        return not self._store.check([_KEY])

    def read(self) -> dict[int, int]:
        marks = (mark.split(":") for mark in self._store.get(_KEY).decode().split())
        return {int(rank): int(exchange) for rank, exchange in marks}


def default_communicator() -> Communicator:
    """torch.distributed's default group if it is initialised, else one rank alone."""
    if dist.is_available() and dist.is_initialized():
        return TorchDistributed()
    return SingleRank()
