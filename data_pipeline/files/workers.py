"""A function over many items in several processes: results in the items' order, few of them in memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

ITEMS_PER_CHUNK = 16
CHUNKS_AHEAD = 4  # per worker: enough that none waits, few enough that memory stays small


def ordered_map(function: Callable[[T], R], items: Iterable[T], workers: int) -> Generator[R]:
    """`map(function, items)` by `workers` processes; one worker means this process.

    `function` and the items must be picklable. An exception of `function` is raised here; an iterator that
    is closed early leaves no process behind. Ctrl-C is this process's affair: workers do not hear it.
    """
    rest = iter(items)
    first = list(islice(rest, ITEMS_PER_CHUNK))
    if workers <= 1 or len(first) < ITEMS_PER_CHUNK:
        with _one_opencv_thread():
            yield from map(function, chain(first, rest))
        return
    chunks = chain([first], iter(lambda: list(islice(rest, ITEMS_PER_CHUNK)), []))
    # Spawned, not forked: a fork of a process with threads (torch, OpenCV) may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker)
    run = partial(_run_chunk, function)
    pending: deque[Future[list[R]]] = deque()
    try:
        for chunk in chunks:
            # The first chunk starts the processes, which take over what is blocked here.
            with signals_held({signal.SIGINT}):
                pending.append(pool.submit(run, chunk))
            if len(pending) >= workers * CHUNKS_AHEAD:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def signals_held(signals: set[signal.Signals]) -> Iterator[None]:
    """Processes that are started meanwhile begin with these signals held back."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    # As in a worker: nothing then depends on how many there are.
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _run_chunk(function: Callable[[T], R], chunk: list[T]) -> list[R]:
    return [function(item) for item in chunk]


def _prepare_worker() -> None:
    import cv2

    cv2.setNumThreads(1)  # one image a process; OpenCV's own threads would only contend
    quiet_opencv()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A pool's worker waits for work for ever when its parent is killed.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def quiet_opencv() -> None:
    """OpenCV's warnings of broken pictures name no file; whoever decodes them reports them."""
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
