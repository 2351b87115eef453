"""How far a long piece of work is: a bar with its rate on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

T = TypeVar("T")

LINE_INTERVAL_S = 10.0


class _RateColumn(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} {self._unit}/s" if speed else "")


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
    stream = stream or sys.stdout
    console = Console(file=stream)
    if not console.is_terminal:
        yield from _with_lines(items, total, done, description, unit, stream)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(description, total=total, completed=done)
        yield from progress.track(items, task_id=task, total=total, completed=done)


def _with_lines(
    items: Iterable[T], total: int, before: int, description: str, unit: str, stream: TextIO
) -> Iterator[T]:
    started = last_line = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - last_line >= LINE_INTERVAL_S and before + done < total:
            rate = done / (now - started)
            line = f"{description}: {before + done} of {total} {unit}, {rate:,.0f} {unit}/s"
            print(f"{line}, {_duration((total - before - done) / rate)} left", file=stream, flush=True)
            last_line = now
    seconds = max(time.monotonic() - started, 1e-9)
    print(
        f"{description}: {before + done} of {total} {unit}"
        f"{f' ({before} before)' if before else ''} in {seconds:.1f} s, {done / seconds:,.0f} {unit}/s",
        file=stream,
        flush=True,
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
