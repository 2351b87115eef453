"""Where the ranks of one machine meet: a store that listens on 127.0.0.1 and nowhere else.

torchrun's own rendezvous listens on every interface, and takes a port that is in use for that of another
agent to wait for. Here the port is bound before anything starts, so that "in use" is an answer at once.
"""

from __future__ import annotations

import socket
from datetime import timedelta

import torch.distributed as dist
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousStoreInfo,
)

from launch.errors import LaunchInputError

BACKEND = "cosface-loopback"
ADDRESS = "127.0.0.1"


def listen(port: int) -> socket.socket:
    """Return a socket that listens on `port` of 127.0.0.1 (0: any free one); LaunchInputError if in use."""
    listener = socket.socket()
    # A port whose last user has just gone is free; one with a listener is still refused.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((ADDRESS, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise LaunchInputError(
            f"port {port} of {ADDRESS} cannot be used ({error.strerror}); give another, or 0 for any free one"
        ) from None
    return listener


class LoopbackRendezvous(RendezvousHandler):
    """The rendezvous of an agent that is alone: rank 0 of 1, over the store on `listener`."""

    def __init__(self, run_id: str, port: int, listen_fd: int) -> None:
        self._run_id = run_id
        self._store = dist.TCPStore(  # type: ignore[attr-defined]  # torch exports it in no __all__
            ADDRESS,
            port,
            is_master=True,
            wait_for_workers=False,
            timeout=timedelta(minutes=10),
            master_listen_fd=listen_fd,
        )
        self._meeting_point = RendezvousStoreInfo(ADDRESS, port)

    def get_backend(self) -> str:
        """Return the name under which this rendezvous is registered."""
        return BACKEND

    @property
    def use_agent_store(self) -> bool:
        """The ranks use this store too, instead of opening one of their own on a second port."""
        return True

    def next_rendezvous(self) -> RendezvousInfo:
        """Return at once: nobody else is waited for."""
        return RendezvousInfo(self._store, 0, 1, self._meeting_point)

    def is_closed(self) -> bool:
        """Return False: nobody else could close it."""
        return False

    def set_closed(self) -> None:
        """Nobody else has to be told."""

    def num_nodes_waiting(self) -> int:
        """Return 0: no other machine joins."""
        return 0

    def get_run_id(self) -> str:
        """Return the run's id."""
        return self._run_id

    def shutdown(self) -> bool:
        """The store ends with this process."""
        return True
