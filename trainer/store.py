"""torch's key-value store for the ranks of a run: on torchrun's agent, or on rank 0 where there is none."""

from __future__ import annotations

import errno
import os
import socket
import time
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import distributed_c10d

from partial_fc.communicator.presence import within
from trainer.errors import RankLost, TrainerInputError, TrainingFailed
from trainer.ranks import Ranks
from trainer.stop import StopAsked, StopRequest

_LOOK_S = 0.2
_CALL = timedelta(seconds=60)
_CONNECT_S = 2 * _CALL.total_seconds()


class PortTaken(TrainingFailed):
    """Something else listens where rank 0 is to; server: who that may be, if it is a run's store."""

    def __init__(self, message: str, server: StoreServer) -> None:
        super().__init__(message)
        self.server = server


def held_by_rank_0() -> bool:
    """Whether the store lives in rank 0; else torchrun's agent has it."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"


@dataclass(frozen=True)
class StoreServer:
    """Where the store listens; `held` is the server itself where it lives in this process."""

    host: str
    port: int
    by_rank_0: bool
    """Whether it ends with rank 0."""
    held: dist.TCPStore | None  # type: ignore[name-defined]  # torch exports it in no __all__

    @property
    def address(self) -> str:
        """host:port."""
        return f"{self.host}:{self.port}"

    def connect(self) -> distributed_c10d.Store:
        """A connection of its own: a call that waits holds back no other.

        Raises TrainingFailed if something else listens there, which torch would wait for without end.
        """
        port = self.held.port if self.held else self.port
        try:
            client = within(
                _CONNECT_S,
                lambda: dist.TCPStore(  # type: ignore[attr-defined]
                    self.host, port, is_master=False, wait_for_workers=False, timeout=_CALL
                ),
            )
        except TimeoutError:
            raise TrainingFailed(
                f"{self.address} (MASTER_ADDR, MASTER_PORT) does not answer as a run does: rank 0 is gone or "
                "stopped, or something else listens there; give another MASTER_PORT"
            ) from None
        # A restart of the ranks by torchrun's agent may find the store of the start before it.
        return distributed_c10d.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), client)


def open_store(ranks: Ranks, deadline_s: float, stop: StopRequest) -> StoreServer:
    """Start the store if it is this rank's to hold, else wait until it listens.

    Raises TrainerInputError if the environment does not say where it is to be, TrainingFailed if it does not
    come or cannot listen (PortTaken where another does), StopAsked.
    """
    host, port = _address(ranks)
    by_rank_0 = held_by_rank_0()
    if ranks.is_first and by_rank_0:
        return StoreServer(host, port, True, _listen(host, port))
    _wait_for_listener(ranks, host, port, by_rank_0, deadline_s, stop)
    return StoreServer(host, port, by_rank_0, None)


def _address(ranks: Ranks) -> tuple[str, int]:
    host, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise TrainerInputError(
            f"WORLD_SIZE is {ranks.world_size}, so MASTER_ADDR and MASTER_PORT must say where rank 0 is "
            f"to be met; they are {host!r} and {port!r}; cosface launch and torchrun set them"
        )
    return host, int(port)


def _listen(host: str, port: int) -> dist.TCPStore:  # type: ignore[name-defined]
    try:
        # torch would print a page about a port that is in use.
        with socket.create_server(("", port)):
            pass
        return dist.TCPStore(  # type: ignore[attr-defined]
            host, port, is_master=True, wait_for_workers=False, timeout=_CALL
        )
    except (OSError, dist.DistError) as error:
        # Python's own words of it name the address once more.
        if isinstance(error, OSError):
            reason = os.strerror(error.errno or 0)
        else:
            reason = "torch's store cannot listen there"
        words = f"rank 0: port {port} (MASTER_PORT) cannot be used: {reason}; give another"
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise PortTaken(words, StoreServer(host, port, True, None)) from error
        raise TrainingFailed(words) from error


def _wait_for_listener(
    ranks: Ranks, host: str, port: int, by_rank_0: bool, deadline_s: float, stop: StopRequest
) -> None:
    """Connect and let go until it works: torch's own tries print pages when they fail."""
    end = time.monotonic() + deadline_s
    while True:
        try:
            with socket.create_connection((host, port), timeout=5):
                return
        except OSError as error:
            reason = error.strerror or str(error)
        if stop.requested:
            raise StopAsked
        if time.monotonic() > end:
            who = "rank 0" if by_rank_0 else "torchrun's agent"
            raise RankLost(
                f"rank {ranks.rank}: could not meet the other {ranks.world_size - 1} within "
                f"{deadline_s:g} s: {host}:{port}, where {who} is to listen: {reason}"
            )
        time.sleep(_LOOK_S)
