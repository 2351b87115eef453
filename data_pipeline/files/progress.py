"""How far a long piece of work is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TextIO, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

T = TypeVar("T")

# Plain lines: this often at first, later after a twentieth of the time so far, at least every minute.
FIRST_INTERVAL_S = 5.0
LAST_INTERVAL_S = 60.0
# A terminal's bar is not moved more often: in between, an item costs the look at a clock.
_BAR_INTERVAL_S = 0.1


class Display:
    """A context manager around the work; `update` says how far it is, `say` puts a line above the bar.

    label: "step" for "step 3/10"; before: what had been done before, which the time left does not count;
    shown: False shows nothing; stream: standard output.
    """

    def __init__(
        self, total: int, label: str, *, before: int = 0, shown: bool = True, stream: TextIO | None = None
    ) -> None:
        self.total = total
        self.before = before
        self._label = label
        self.is_shown = shown
        self._began = self._told = time.monotonic()
        self._console = Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        if shown and self._console.is_terminal:
            columns = (
                TextColumn(f"{label} {{task.completed}}/{{task.total}}", markup=False),
                BarColumn(),
                TextColumn("{task.description}", markup=False),
            )
            self._bar = Progress(*columns, console=self._console)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task("", total=self.total, completed=self.before)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return max(time.monotonic() - self._began, 1e-9)

    def say(self, line: str) -> None:
        """A line of its own, above the bar."""
        if self.is_shown:
            self._console.print(line, markup=False)

    def is_due(self, done: int) -> bool:
        """Whether something is to be shown now that so much is done."""
        if not self.is_shown:
            return False
        now = time.monotonic()
        if self._bar:
            return now - self._told >= _BAR_INTERVAL_S or done >= self.total
        interval = min(LAST_INTERVAL_S, max(FIRST_INTERVAL_S, (now - self._began) / 20))
        return now - self._told >= interval

    def show(self, done: int, words: str) -> None:
        """Show it: so much is done, and `words` about it; the time that is left is added."""
        self._told = time.monotonic()
        left_s = self.seconds / max(1, done - self.before) * (self.total - done)
        words = f"{words}  {clock(left_s)} left"
        if self._bar:
            self._bar.update(self._task, completed=done, description=words)
        else:
            self.say(f"{self._label} {done}/{self.total}  {words}")


def track(
    items: Iterable[T],
    *,
    total: int,
    description: str,
    done: int = 0,
    unit: str = "images",
    stream: TextIO | None = None,
) -> Iterator[T]:
    """Yields `items`, showing on `stream` (standard output) how many of `total` have passed, and how fast.

    done: how many of the total had passed before, which the rate does not count.
    """
    passed = 0
    with Display(total, description, before=done, stream=stream) as display:
        for item in items:
            yield item
            passed += 1
            if display.is_due(done + passed) and done + passed < total:
                display.show(done + passed, f"{passed / display.seconds:,.0f} {unit}/s")
        seconds = display.seconds
    display.say(
        f"{description}: {done + passed} of {total} {unit}"
        f"{f' ({done} before)' if done else ''} in {seconds:.1f} s, {passed / seconds:,.0f} {unit}/s"
    )


def clock(seconds: float) -> str:
    """Hours, minutes and seconds as a person reads them: 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
