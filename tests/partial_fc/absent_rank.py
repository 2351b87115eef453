"""One rank of test_absent_ranks.py: steps of two heads, one rank of which leaves before an exchange.

python -m tests.partial_fc.absent_rank KIND RANK WORLD_SIZE HOW VICTIM [ADDRESS_OF_RANK_0]
KIND: whole, halves (two groups, of the odd and of the even ranks), holder (rank 0 holds the store, that
otherwise is the test's) or horovod. HOW: an entry of LEAVE.
Prints the error in which the rank's steps end.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from partial_fc import CosFace, Horovod, PartialFC
from partial_fc.communicator import Communicator, TorchDistributed
from partial_fc.errors import CollectiveError

STEPS, BEFORE_EXCHANGE, DEADLINE_S = 3, 7, 20.0
MEET = timedelta(seconds=3000)


def fail() -> None:
    raise ValueError("this rank has an error of its own")


LEAVE: dict[str, Callable[[], object]] = {
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stopped": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "raised": fail,
    "busy": lambda: time.sleep(3600),
}


class Leaving:
    """Another communicator, whose user leaves before an exchange."""

    def __init__(self, inner: Communicator, leave: Callable[[], object]) -> None:
        self._inner, self._leave, self._exchanges = inner, leave, 0
        self.rank, self.world_size = inner.rank, inner.world_size

    def all_gather(self, tensor: Tensor) -> Tensor:
        self._count()
        return self._inner.all_gather(tensor)

    def all_to_all(self, tensor: Tensor) -> Tensor:
        self._count()
        return self._inner.all_to_all(tensor)

    def _count(self) -> None:
        self._exchanges += 1
        if self._exchanges == BEFORE_EXCHANGE:
            self._leave()


def join(kind: str, rank: int, world_size: int, address: str) -> Callable[[], Communicator]:
    """Meet the others; what makes a communicator."""
    if kind == "horovod":
        import horovod.torch as hvd

        hvd.init()
        return lambda: Horovod(deadline_s=DEADLINE_S)
    host, port = address.split(":")
    store = dist.TCPStore(host, int(port), is_master=kind == "holder" and rank == 0, timeout=MEET)
    dist.init_process_group("gloo", store=store, timeout=MEET, rank=rank, world_size=world_size)
    sets = [[0, 2], [1, 3]] if kind == "halves" else [list(range(world_size))]
    groups = [dist.new_group(ranks, timedelta(seconds=DEADLINE_S)) for ranks in sets]
    dist.barrier()
    own = next(group for group, ranks in zip(groups, sets, strict=True) if rank in ranks)
    return lambda: TorchDistributed(own)


def main(kind: str, rank: int, world_size: int, how: str, victim: int, address: str = "") -> None:
    torch.set_num_threads(1)
    communicator = join(kind, rank, world_size, address)
    leaving = communicator()
    if rank == victim:
        leaving = Leaving(leaving, LEAVE[how])
    heads = [
        PartialFC(10, 4, CosFace(), kernels="reference", communicator=one)
        for one in (communicator(), leaving)
    ]
    embeddings = torch.ones(2, 4, requires_grad=True)
    try:
        for _ in range(STEPS):
            for head in heads:
                head(embeddings, torch.tensor([rank, 9])).backward()
                head.step(0.1)
        print("all steps done")
    except CollectiveError as error:
        print(error)


if __name__ == "__main__":
    kind, rank, world_size, how, victim = sys.argv[1:6]
    main(kind, int(rank), int(world_size), how, int(victim), *sys.argv[6:])
