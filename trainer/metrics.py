"""Numbers of a run: seconds by phase, and `events.jsonl`, one line a logged step."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

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

    def lap(self) -> dict[str, float]:
        """Seconds of every phase since the last call, and `total` of all that time; starts anew."""
        now = time.perf_counter()
        seconds = {**self._phases, "total": now - self._began}
        self._phases, self._began = {}, now
        return {name: round(value, 6) for name, value in seconds.items()}


class EventLog:
    """`events.jsonl`: an object a line, one line a logged step."""

    def __init__(self, file: Path, up_to_step: int) -> None:
        """Go on with the file behind `up_to_step`: later lines are those of steps that will be done again."""
        self._file = file
        try:
            if file.exists():
                self._drop_after(up_to_step)
            self._stream = file.open("a", encoding="utf-8")
        except OSError as error:
            raise not_written(file, error) from error

    def write(self, event: Mapping[str, Any]) -> None:
        """Add a line, at once readable by others."""
        try:
            self._stream.write(json.dumps(event) + "\n")
            self._stream.flush()
        except OSError as error:
            raise not_written(self._file, error) from error

    def close(self) -> None:
        """Close the file; what is left of a line that could not be written was told by `write`."""
        with suppress(OSError):
            self._stream.close()

    def _drop_after(self, step: int) -> None:
        kept = [line for line in self._file.read_bytes().splitlines(keepends=True) if _step_of(line) <= step]
        temporary = self._file.with_name(f".{self._file.name}.tmp")
        temporary.write_bytes(b"".join(kept))
        os.replace(temporary, self._file)


def _step_of(line: bytes) -> float:
    """The step of a line; a line that was cut off in the middle is of no step that was done."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
    return float(step) if line.endswith(b"\n") else float("inf")
