"""Numbers of a run: seconds by phase, and `events.jsonl`, one line a logged step and one an evaluation."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline.files.atomic import write_file
from data_pipeline.files.typed_json import from_json
from trainer.errors import not_written


class Stopwatch:
    """Seconds of this process by phase, between two calls of `lap`.

    On a GPU they are the host's: a phase that only queues work is short, the one that waits for it is long.
    """

    def __init__(self) -> None:
        self._phases: dict[str, float] = {}
        self._began = time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block's time to this phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._phases[name] = self._phases.get(name, 0.0) + time.perf_counter() - start

    def take(self, name: str) -> float:
        """Seconds of one phase since it was last taken or the last lap; they count for no lap any more."""
        return round(self._phases.pop(name, 0.0), 6)

    def lap(self) -> dict[str, float]:
        """Seconds of every phase since the last call, and `total` of all that time; starts anew."""
        now = time.perf_counter()
        seconds = {**self._phases, "total": now - self._began}
        self._phases, self._began = {}, now
        return {name: round(value, 6) for name, value in seconds.items()}


class EventLog:
    """`events.jsonl`: an object a line, each with the unix time at which it was written.

    A full disk costs lines, never the run: a line is written whole or not at all, and `lost` counts those
    that were not.
    """

    def __init__(self, file: Path, up_to_step: int) -> None:
        """Go on with the file behind `up_to_step`: later lines are those of steps that will be done again.

        Raises TrainingFailed if the file cannot be opened.
        """
        self._file = file
        self.lost = 0
        try:
            if file.exists():
                self._drop_after(up_to_step)
            self._stream = file.open("ab", buffering=0)
        except OSError as error:
            raise not_written(file, error) from error

    def write(self, event: Mapping[str, Any]) -> bool:
        """Add a line, at once readable by others; whether the disk took it."""
        line = json.dumps({"time": round(time.time(), 3), **event}).encode() + b"\n"
        end = None
        try:
            end = self._stream.seek(0, os.SEEK_END)
            if self._stream.write(line) == len(line):
                return True
        except OSError:
            pass
        self.lost += 1
        with suppress(OSError):
            if end is not None:
                self._stream.truncate(end)  # a line of which a part was taken
        return False

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):
            self._stream.close()

    def _drop_after(self, step: int) -> None:
        lines = self._file.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if _step_of(line) <= step]
        if len(kept) < len(lines):
            write_file(self._file, b"".join(kept), durable=True)


@dataclass(frozen=True)
class _Line:
    step: int


def _step_of(line: bytes) -> float:
    """The step of a line; a line that was cut off in the middle is of no step that was done."""
    try:
        step = from_json(line, _Line, more=True).step
    except ValueError:
        return float("inf")
    return step if line.endswith(b"\n") else float("inf")
