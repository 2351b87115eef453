"""Requests to stop a job: signals to the launcher, passed on to its ranks as they came."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

GRACE_S = 600
"""For the step under way and a checkpoint; then the ranks are killed."""
SECOND_AFTER_S = 3.0
"""A signal within this time of the first is the same request: Slurm sends its own beside the launcher's."""
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
_LOOK_S = 0.05


class Requests:
    """What the launcher was asked for while its ranks run. ranks: their process ids, none before they start.

    SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 go to every rank, a closed terminal's SIGHUP as SIGTERM. A second
    SIGTERM or SIGINT, some seconds later, kills the ranks.
    """

    def __init__(self, ranks: Callable[[], list[int]]) -> None:
        self._ranks = ranks
        self.first: signal.Signals | None = None
        """The signal that asked to stop, if one has."""
        self._first_s = 0.0
        self._over = threading.Event()

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Listen in the block; to be called in the main thread. Under nohup SIGHUP stays ignored."""
        numbers = [*PASSED_ON, signal.SIGHUP]
        if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
            numbers.remove(signal.SIGHUP)
        before = {number: signal.signal(number, self._note) for number in numbers}
        try:
            yield
        finally:
            self._over.set()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number)
        if self.first is None:
            self.first, self._first_s = name, time.monotonic()
            threading.Thread(target=self._pass_on, args=(name,), daemon=True).start()
        elif name in (signal.SIGTERM, signal.SIGINT) and time.monotonic() - self._first_s > SECOND_AFTER_S:
            self._send(signal.SIGKILL)

    def _pass_on(self, name: signal.Signals) -> None:
        while not self._ranks():
            if self._over.wait(_LOOK_S):
                return
        self._send(signal.SIGTERM if name == signal.SIGHUP else name)
        if not self._over.wait(GRACE_S):
            self._send(signal.SIGKILL)

    def _send(self, name: signal.Signals) -> None:
        for process in self._ranks():
            with suppress(ProcessLookupError):
                os.kill(process, name)
