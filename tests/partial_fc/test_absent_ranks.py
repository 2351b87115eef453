"""A rank that dies, stops, fails or is late is named by the others, and nobody waits for ever."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist

from tests.horovod_ranks import rendezvous
from tests.partial_fc.absent_rank import BEFORE_EXCHANGE
from tests.waiting import patience_s

WAYS = ["killed", "stopped", "raised", "busy"]


def said_by_the_others(
    kind: str,
    world_size: int,
    how: str,
    victim: int,
    address: str = "",
    environments: list[dict[str, str]] | None = None,
) -> dict[int, str]:
    """What each rank but the victim printed; TimeoutExpired if one of them does not end."""
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.partial_fc.absent_rank",
             kind, str(rank), str(world_size), how, str(victim), address],
            cwd=Path(__file__).parents[2],
            env=os.environ | (environments[rank] if environments else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for rank in range(world_size)
    ]  # fmt: skip
    try:
        return {
            rank: process.communicate(timeout=patience_s())[0].strip()
            for rank, process in enumerate(ranks)
            if rank != victim
        }
    finally:
        for process in ranks:
            process.kill()
            process.communicate()


def names(rank: int, world_size: int, absent: int) -> str:
    return (
        f"rank {rank} of {world_size}: the all-gather of the head failed at its exchange {BEFORE_EXCHANGE}: "
        rf"rank {absent} did not come within \d+ s: "
    )


@pytest.fixture
def store() -> dist.TCPStore:
    """Held by the test, as torchrun's agent does."""
    return dist.TCPStore(
        "127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=patience_s())
    )


@pytest.mark.parametrize("how", WAYS)
def test_the_absent_rank_is_named(how: str, store: dist.TCPStore) -> None:
    said = said_by_the_others("whole", 3, how, 1, f"127.0.0.1:{store.port}")
    for rank in (0, 2):
        assert re.match(names(rank, 3, 1), said[rank]), said[rank]


def test_ranks_are_the_groups_and_groups_do_not_meet(store: dist.TCPStore) -> None:
    said = said_by_the_others("halves", 4, "killed", 3, f"127.0.0.1:{store.port}")
    assert re.match(names(0, 2, 1), said[1]), said[1]
    assert said[0] == said[2] == "all steps done"


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_the_holder_of_the_store_takes_the_names_along(how: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    said = said_by_the_others("holder", 3, how, 0, address)
    for rank in (1, 2):
        assert (
            f"rank {rank} of 3: the all-gather of the head failed at its exchange 7: a rank is gone"
            in said[rank]
        )
        assert "not known without the process group's store" in said[rank]


@pytest.mark.horovod
@pytest.mark.parametrize("how", WAYS)
def test_the_absent_rank_is_named_with_horovod(how: str) -> None:
    with rendezvous(3, timeout_s=10) as environments:
        said = said_by_the_others("horovod", 3, how, 1, environments=environments)
    for rank in (0, 2):
        assert re.match(names(rank, 3, 1), said[rank]), said[rank]
