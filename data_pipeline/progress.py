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
    items: Iterable[T], *, total: int, description: str, unit: str = "images", stream: TextIO | None = None
) -> Iterator[T]:
    """Yields `items`, showing on `stream` (standard output) how many of `total` have passed, and how fast."""
    stream = stream or sys.stdout
    console = Console(file=stream)
    if not console.is_terminal:
        yield from _with_lines(items, total, description, unit, stream)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield from progress.track(items, total=total, description=description)


def _with_lines(items: Iterable[T], total: int, description: str, unit: str, stream: TextIO) -> Iterator[T]:
    started = last_line = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - last_line >= LINE_INTERVAL_S and done < total:
            rate = done / (now - started)
            print(f"{description}: {done} of {total} {unit}, {rate:,.0f} {unit}/s", file=stream, flush=True)
            last_line = now
    seconds = max(time.monotonic() - started, 1e-9)
    print(
        f"{description}: {done} of {total} {unit} in {seconds:.1f} s, {done / seconds:,.0f} {unit}/s",
        file=stream,
        flush=True,
    )
