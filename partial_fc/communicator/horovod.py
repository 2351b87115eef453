"""Exchanges over Horovod."""

from __future__ import annotations

import http.client
import os
import time
from typing import Any

import torch
from torch import Tensor

from partial_fc.communicator.presence import LOOK_EVERY_S, Presence
from partial_fc.errors import HeadInputError, require

ADDRESS, PORT = "HOROVOD_GLOO_RENDEZVOUS_ADDR", "HOROVOD_GLOO_RENDEZVOUS_PORT"
REQUEST_S = 2.0


class Horovod:
    """Horovod, after `hvd.init()`: `PartialFC(…, communicator=Horovod())`.

    process_set: the hvd.ProcessSet whose ranks share the classes; None takes all. Ranks are counted in it.
    deadline_s: of every exchange. Under gloo Horovod has one of its own beside it, 30 s for a process that
        is dead or stopped (HOROVOD_GLOO_TIMEOUT_SECONDS).
    Raises HeadInputError where Horovod is missing, not initialised or this rank not in the set.
    """

    def __init__(self, process_set: Any = None, *, deadline_s: float = 600.0) -> None:
        require(0 < deadline_s < float("inf"), "deadline_s", "above 0 and finite", deadline_s)
        try:
            import horovod.torch as hvd
        except ImportError as error:
            raise HeadInputError(
                f"communicator Horovod needs Horovod built for this torch; importing it says: {error}"
            ) from error
        if not hvd.is_initialized():
            raise HeadInputError("communicator Horovod needs Horovod initialised: call hvd.init() before")
        self._hvd = hvd
        self._set = process_set or hvd.global_process_set
        if not self._set.included():
            raise HeadInputError(f"rank {hvd.rank()} is not in the process set {self._set.ranks}")
        self.rank: int = self._set.rank()
        self.world_size: int = self._set.size()
        self.deadline_s = deadline_s
        self._presence = Presence(self.rank, self.world_size, _RendezvousBoard.of_set(self._set))

    def all_gather(self, tensor: Tensor) -> Tensor:
        """See Communicator. Raises CollectiveError when a rank does not come in time."""
        return self._exchange("all-gather", self._hvd.allgather_async, tensor[None], self.world_size)

    def all_to_all(self, tensor: Tensor) -> Tensor:
        """See Communicator. Raises CollectiveError when a rank does not come in time."""
        return self._exchange("all-to-all", self._hvd.alltoall_async, tensor, self.world_size)

    def _exchange(self, name: str, start: Any, tensor: Tensor, rows: int) -> Tensor:
        received = tensor.new_empty((rows, *tensor.shape[1:]))
        if not received.numel():  # the same shape everywhere: nobody waits
            return received
        # Bytes, since Horovod lacks some types; the same size under the same name, which it remembers.
        sent = tensor.contiguous().view(tensor.shape[0], -1).view(torch.uint8)
        self._presence.begin()
        try:
            handle = start(sent, name=f"partial_fc.{name}.{sent.shape[1]}", process_set=self._set)
            self._wait(handle)
            answer = self._hvd.synchronize(handle)
        except RuntimeError as error:
            raise self._presence.failure(name, error) from error
        # An all-to-all says beside it how much came from whom.
        found: Tensor = answer[0] if isinstance(answer, tuple) else answer
        return found.view(rows, -1).view(tensor.dtype).view(received.shape)

    def _wait(self, handle: int) -> None:
        look_s = LOOK_EVERY_S
        while not self._hvd.poll(handle):
            waited_s = self._presence.waited_s
            if waited_s > self.deadline_s:
                raise RuntimeError(f"not done within the deadline of {self.deadline_s:g} s")
            if waited_s > look_s:
                if self._presence.given_up():
                    raise RuntimeError("another rank has given up")
                look_s = self._presence.waited_s + LOOK_EVERY_S
            time.sleep(min(1e-4 + waited_s / 20, 0.05))


class _RendezvousBoard:
    """The key-value server by which Horovod's gloo ranks find each other, held by the launcher."""

    holder = "Horovod's rendezvous server, whose holder (the launcher) does not answer"

    def __init__(self, scope: str, world_size: int) -> None:
        self._scope, self._world_size = scope, world_size

    @classmethod
    def of_set(cls, process_set: Any) -> _RendezvousBoard | None:
        if ADDRESS not in os.environ or PORT not in os.environ:
            return None  # Horovod over MPI
        return cls(f"partial_fc-{process_set.process_set_id}", process_set.size())

    def post(self, rank: int, exchange: int) -> None:
        _ask("PUT", self._scope, str(rank), str(exchange))
        _ask("PUT", self._scope, "any", "1")

    def is_empty(self) -> bool:
        return _ask("GET", self._scope, "any") is None

    def read(self) -> dict[int, int]:
        posted = {rank: _ask("GET", self._scope, str(rank)) for rank in range(self._world_size)}
        return {rank: int(exchange) for rank, exchange in posted.items() if exchange is not None}


def _ask(method: str, scope: str, key: str, value: str | None = None) -> str | None:
    """The server's answer, None where it has no such key."""
    server = http.client.HTTPConnection(os.environ[ADDRESS], int(os.environ[PORT]), timeout=REQUEST_S)
    try:
        server.request(method, f"/{scope}/{key}", value)
        answer = server.getresponse()
        text = answer.read().decode()
    finally:
        server.close()
    if answer.status == http.client.NOT_FOUND:
        return None
    if answer.status != http.client.OK:
        raise OSError(f"status {answer.status}")
    return text
