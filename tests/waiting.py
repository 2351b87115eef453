"""How long tests wait for what is certain to come: far longer than it takes, and longer on a busy machine.

A wait is over when its event is there; the time given here is only ever used up by what does not come at all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable


def patience_s(quiet_s: float = 60.0) -> float:
    """Seconds to wait for what takes `quiet_s` at most on a quiet machine."""
    try:
        waiting = os.getloadavg()[0] / (os.cpu_count() or 1)
    except OSError:
        waiting = 0.0
    return quiet_s * min(20.0, max(5.0, 2.0 * waiting))


def until(event: Callable[[], bool], what: str, quiet_s: float = 60.0) -> None:
    """Return as soon as the event is there; AssertionError saying what did not come."""
    end = time.monotonic() + patience_s(quiet_s)
    while not event():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.02)
