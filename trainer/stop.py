"""A polite request to stop: SIGTERM, Ctrl-C once, SIGUSR1 or SIGUSR2."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

EXIT_STOPPED = 75
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
SECOND_AFTER_S = 3.0
"""A signal within this time of the first is the same request: Slurm's and torchrun's come together."""


class StopAsked(BaseException):
    """A request to stop, heard where leaving at once loses nothing: before a start's first step."""


class EvaluationStopped(Exception):
    """A request to stop, heard between two batches of an evaluation."""


class StopRequest:
    """A context manager that notes the signals; the loop ends the step and writes a checkpoint.

    A second SIGTERM or Ctrl-C, some seconds later, interrupts at once; not under torchrun's agent, which ends
    its ranks itself when it is tired of waiting. Only the main thread may enter it.
    """

    def __init__(self) -> None:
        self.requested = False
        self._at_once = False
        self._first_s = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def heard_at_once(self) -> Iterator[None]:
        """Raise StopAsked wherever the block is when the request comes, or now if it has come."""
        self._at_once = True
        try:
            if self.requested:
                raise StopAsked
            yield
        finally:
            self._at_once = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        now_s = time.monotonic()
        if not self.requested:
            self.requested, self._first_s = True, now_s
            if self._at_once:
                raise StopAsked
        elif (
            number in (signal.SIGTERM, signal.SIGINT)
            and now_s - self._first_s > SECOND_AFTER_S
            and "TORCHELASTIC_RUN_ID" not in os.environ
        ):
            raise KeyboardInterrupt
