"""A function over many items in several processes: results in the items' order, few of them in memory."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

ITEMS_PER_CHUNK = 16
CHUNKS_AHEAD = 4  # per worker: enough that none waits, few enough that memory stays small


def default_workers() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(function: Callable[[T], R], items: Sequence[T], workers: int) -> Generator[R]:
    """`map(function, items)` by `workers` processes; one worker means this process.

    `function` and the items must be picklable. An exception of `function` is raised here; an iterator that
    is closed early leaves no process behind.
    """
    if workers <= 1 or len(items) <= ITEMS_PER_CHUNK:
        yield from map(function, items)
        return
    chunks = (items[first : first + ITEMS_PER_CHUNK] for first in range(0, len(items), ITEMS_PER_CHUNK))
    # Spawned, not forked: a fork of a process with threads (torch, OpenCV) may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker)
    run = partial(_run_chunk, function)
    pending: deque[Future[list[R]]] = deque()
    try:
        for chunk in chunks:
            pending.append(pool.submit(run, chunk))
            if len(pending) >= workers * CHUNKS_AHEAD:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _run_chunk(function: Callable[[T], R], chunk: Sequence[T]) -> list[R]:
    return [function(item) for item in chunk]


def _prepare_worker() -> None:
    import cv2

    cv2.setNumThreads(1)  # one image a process; OpenCV's own threads would only contend
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A pool's worker waits for work for ever when its parent is killed.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
