"""Run a function on N gloo ranks in processes of their own and collect what each returns."""

from __future__ import annotations

import multiprocessing as mp
import os
import queue
import tempfile
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.waiting import patience_s

if TYPE_CHECKING:
    from trainer.ranks import Ranks


def _rank_main(
    function: Callable[..., Any], rank: int, world_size: int, store: str, results: Any, args: tuple[Any, ...]
) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    try:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
        dist.barrier()  # a rank that ends while others still connect would break their connections
        results.put((rank, True, function(*args)))
    except BaseException:
        results.put((rank, False, traceback.format_exc()))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def these_ranks() -> Ranks:
    """In a function of `run_ranks`: the ranks over their group, all of them on this machine."""
    from partial_fc.communicator import TorchDistributed
    from trainer.ranks import Ranks

    communicator = TorchDistributed(user="the test")
    return Ranks.over(communicator, communicator.rank, communicator.world_size)


def run_ranks(
    world_size: int, function: Callable[..., Any], *args: Any, deadline_s: float | None = None
) -> list[Any]:
    """Return `[function(*args) on rank 0, on rank 1, …]`; raise the first failure with its traceback.

    deadline_s: far longer than any run takes, if not given. `function` and `args` must be picklable (a
    module-level function); what a rank returns, too (numpy arrays rather than tensors).
    """
    context = mp.get_context("spawn")
    results = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        store = os.path.join(folder, "store")
        processes = [
            context.Process(target=_rank_main, args=(function, rank, world_size, store, results, args))
            for rank in range(world_size)
        ]
        for process in processes:
            process.start()
        try:
            return _collect(results, world_size, time.monotonic() + (deadline_s or patience_s(120)))
        finally:
            for process in processes:
                process.join(timeout=5)
                if process.is_alive():
                    process.kill()


def _collect(results: Any, world_size: int, deadline: float) -> list[Any]:
    returned: dict[int, Any] = {}
    while len(returned) < world_size:
        try:
            rank, succeeded, value = results.get(timeout=max(0.1, deadline - time.monotonic()))
        except queue.Empty:
            missing = sorted(set(range(world_size)) - returned.keys())
            raise TimeoutError(f"ranks {missing} returned nothing before the deadline") from None
        if not succeeded:
            raise AssertionError(f"rank {rank} failed:\n{value}")
        returned[rank] = value
    return [returned[rank] for rank in range(world_size)]
