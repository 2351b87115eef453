"""Measure a classifier on ranks of its own processes: seconds of a step, memory, bytes sent, the floor."""

from __future__ import annotations

import multiprocessing as mp
import os
import queue
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from launch.bench.rivals import RIVALS
from launch.bench.row import Case, Measured
from launch.errors import LaunchInputError
from launch.job import on_loopback

MIB = 2**20
DEADLINE_S = 3600.0
TILES = (512, 1024, 2048)


def measure(case: Case, steps: int) -> Measured:
    """Run one warm-up step and `steps` more. Raises LaunchInputError if a rank cannot, with its reason."""
    world_size = 1 if case.of_ranks else case.ranks
    context = mp.get_context("spawn")
    results: Any = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        store = os.path.join(folder, "store")
        processes = [
            context.Process(target=_rank, args=(rank, world_size, store, case, steps, results))
            for rank in range(world_size)
        ]
        for process in processes:
            process.start()
        try:
            return _slowest([_next(results, processes) for _ in processes])
        finally:
            for process in processes:
                process.join(timeout=5)
                process.kill()


def _next(results: Any, processes: list[Any]) -> Measured:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        with suppress(queue.Empty):
            found = results.get(timeout=1.0)
            if isinstance(found, Measured):
                return found
            raise LaunchInputError(found)
        if any(process.exitcode not in (None, 0) for process in processes):
            raise LaunchInputError("a rank was killed: most likely there is too little memory")
    raise LaunchInputError(f"no result within {DEADLINE_S:g} s")


def _slowest(ranks: list[Measured]) -> Measured:
    return Measured(
        max(one.step_s for one in ranks),
        max(one.extra_mib for one in ranks),
        max(one.wire_bytes for one in ranks),
        max(one.floor_s for one in ranks),
        max(one.memory_s for one in ranks),
        ranks[0].loss,
    )


def _rank(rank: int, world_size: int, store: str, case: Case, steps: int, results: Any) -> None:
    try:
        torch.set_num_threads(case.threads)
        os.environ.update(on_loopback())
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
        dist.barrier()
        results.put(_measured(rank, case, steps))
        dist.barrier()
    except LaunchInputError as error:
        results.put(str(error))
    except Exception as error:
        results.put(f"{case.rival}, {case.classes} classes: {type(error).__name__}: {error}")
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _measured(rank: int, case: Case, steps: int) -> Measured:
    device = torch.device("cpu")
    embeddings, labels = _batch(rank, case)
    floor, memory = gemm_floor(case), memory_floor(case)
    warm_up = RIVALS[case.rival](_small(case), device)  # imports and compilers are no part of a step's memory
    warm_up.step(embeddings.clone().requires_grad_(), labels % _small(case).classes)
    del warm_up
    before = _resident_mib()
    rival = RIVALS[case.rival](case, device)
    _forget_peak()
    seconds, losses = [], []
    for _ in range(steps + 1):
        x = embeddings.clone().requires_grad_()
        if not case.of_ranks:
            dist.barrier()
        begun = time.perf_counter()
        losses.append(rival.step(x, labels))
        seconds.append(time.perf_counter() - begun)
    extra = _peak_mib() - before - rival.state_bytes / MIB
    counted = seconds[1:] or seconds
    middle = sorted(counted)[len(counted) // 2]
    return Measured(middle, extra, rival.wire_bytes, floor, memory, losses[0])


def _batch(rank: int, case: Case) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rank)
    embeddings = torch.randn(case.batch_size, case.embedding_dim, generator=generator)
    return embeddings, torch.randint(case.classes, (case.batch_size,), generator=generator)


def _small(case: Case) -> Case:
    return Case(**(vars(case) | {"classes": 64 * max(1, case.ranks) if not case.of_ranks else case.of_ranks}))


def gemm_floor(case: Case) -> float:
    """Seconds of a step's three matrix products, 2·G·(C/N)·D flops each, with the best tile and no more.

    Over rows that do not fit the caches, as the centres do not; by each thread on rows of its own.
    """
    ranks = case.shared_by
    images, dim = min(case.batch_size * ranks, 512), case.embedding_dim
    dtype = getattr(torch, case.dtype)
    rows = 32 * max(TILES)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    weight = torch.randn(rows, dim).to(dtype)
    inputs, sums = torch.randn(images, dim).to(dtype), torch.zeros(images, dim, dtype=dtype)
    best = float("inf")
    for tile in TILES:
        logits, gradient = torch.empty(tile, images, dtype=dtype), torch.empty(tile, dim, dtype=dtype)
        for _ in range(2):
            begun = time.perf_counter()
            for start in range(0, rows, tile):
                part = weight[start : start + tile]
                torch.mm(part, inputs.T, out=logits)
                torch.mm(logits.T, part, out=sums)
                torch.mm(logits, inputs, out=gradient)
            best = min(best, time.perf_counter() - begun)
    torch.set_num_threads(threads)
    share = case.classes / ranks * case.sample_rate * case.batch_size * ranks / images
    return best * share / rows / case.threads


def memory_floor(case: Case) -> float:
    """Seconds to move what a step of ours cannot but move; the speed is that of adding to a long row."""
    row = torch.zeros(2**25)
    best = float("inf")
    for _ in range(3):
        begun = time.perf_counter()
        row.add_(1.0)
        best = min(best, time.perf_counter() - begun)
    speed = 2 * 4 * row.numel() / best
    rows = case.classes / case.shared_by * case.sample_rate
    moved = 5 * 4 * case.embedding_dim + (2 * case.kept_bytes if case.keeps else 0)
    return rows * moved / speed


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def _forget_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(peak) / 1024
