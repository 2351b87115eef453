"""Threads that work on tiles side by side, each with its matrix products on itself alone.

Two threads that share every small matrix product wait for each other after each; two that have tiles of their
own do not. A worker's result depends on its tiles only and results are merged in order, so a run with as many
threads gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from threading import Barrier
from typing import TypeVar

import torch

Result = TypeVar("Result")


class Workers:
    """As many threads as torch would use, started when first needed; one: the caller itself."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._threads = 0

    def run(
        self, work: Callable[[int, int], Result], count: int, least: int, most_shares: int = 1 << 30
    ) -> list[Result]:
        """[work(first, last), …] over shares of `count` things, in order, each of at least `least`."""
        threads = torch.get_num_threads()
        shares = max(1, min(threads, count // max(1, least), most_shares))
        if shares == 1:
            return [work(0, count)]
        borders = [count * share // shares for share in range(shares + 1)]
        pool = self._started(threads)
        futures = [pool.submit(work, *ends) for ends in pairwise(borders)]
        wait(futures)  # also where one fails: the others still write
        return [future.result() for future in futures]

    def _started(self, threads: int) -> ThreadPoolExecutor:
        if self._pool is None or self._threads != threads:
            if self._pool is not None:
                self._pool.shutdown()
            barrier = Barrier(threads)

            def alone() -> None:
                # A thread's number is its own, but torch sets it to the process's when it is first asked for:
                # ask before. The barrier has each worker take one turn.
                torch.get_num_threads()
                torch.set_num_threads(1)
                barrier.wait()

            self._pool = ThreadPoolExecutor(threads, thread_name_prefix="partial_fc")
            self._threads = threads
            for future in [self._pool.submit(alone) for _ in range(threads)]:
                future.result()
            torch.set_num_threads(threads)  # what the library keeps for the whole process
        return self._pool
