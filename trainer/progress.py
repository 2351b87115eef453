"""What rank 0 shows of a run: a bar on a terminal, plain lines everywhere else."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

# Plain lines: this often at first, later after a twentieth of the time so far, at least every minute.
_FIRST_INTERVAL_S = 5.0
_LAST_INTERVAL_S = 60.0


class ProgressDisplay:
    """A context manager around the loop of rank 0; on other ranks it shows nothing."""

    def __init__(self, total_steps: int, done_steps: int, shown: bool) -> None:
        self._total = total_steps
        self._first = done_steps
        self._shown = shown
        self._began = self._told = time.monotonic()
        self._console = Console(highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        if shown and self._console.is_terminal:
            columns = (
                TextColumn("step {task.completed}/{task.total}"),
                BarColumn(),
                TextColumn("{task.description}"),
            )
            self._bar = Progress(*columns, console=self._console)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total, completed=self._first)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, line: str) -> None:
        """A line of its own, above the bar."""
        if self._shown:
            self._console.print(line, markup=False)

    def step(self, step: int, loss: float, lr: float, images_per_second: float) -> None:
        """`step` steps are done."""
        if not self._shown:
            return
        now = time.monotonic()
        left_s = (now - self._began) / max(1, step - self._first) * (self._total - step)
        numbers = f"loss {loss:.4f}  lr {lr:.3g}  {images_per_second:,.0f} images/s  {clock(left_s)} left"
        if self._bar:
            self._bar.update(self._task, completed=step, description=numbers)
            return
        interval = min(_LAST_INTERVAL_S, max(_FIRST_INTERVAL_S, (now - self._began) / 20))
        if step in (self._first + 1, self._total) or now - self._told >= interval:
            self._told = now
            self.say(f"step {step}/{self._total}  {numbers}")


def clock(seconds: float) -> str:
    """Hours, minutes and seconds as a person reads them: 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
