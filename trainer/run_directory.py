"""The folder in which a run lives, and the lock that gives it one writer.

run.toml         the last start's settings           events.jsonl   a line a logged step, an evaluation
starts/          every start's, 0001-step-00000000   damaged.csv    images that could not be used
ranks.json       which rank owns which classes       status.json    running, stopped or finished
checkpoints/     step-00001000, …                    evaluation/    step-00001000.json, …
lock             held by rank 0 while the run goes on
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from data_pipeline.files.atomic import write_file
from data_pipeline.files.lock import HeldByAnother, ProcessLock
from trainer.errors import TrainerInputError, not_written
from trainer.run_files import STATUS_FILE, Status

# A run that was just killed needs a moment to die, one that trains does not go away.
_LOCK_WAIT_S = 10.0


class RunDirectory:
    """Rank 0's hold on the run's folder; a context manager that makes the folder and keeps the lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = ProcessLock(folder / "lock", _LOCK_WAIT_S)

    def __enter__(self) -> Self:
        """Raises TrainerInputError if the folder cannot be written, or naming the process that holds it."""
        try:
            self._lock.acquire()
        except HeldByAnother as other:
            raise TrainerInputError(
                f"--run {self.folder}: {other.holder} is writing there; stop it or choose another folder"
            ) from None
        except OSError as error:
            raise TrainerInputError(f"--run {self.folder}: cannot be written: {error.strerror}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def write(self, name: str, text: str) -> None:
        """Replace a file of the folder, whole or not at all. Raises TrainingFailed naming it."""
        file = self.folder / name
        try:
            write_file(file, text)
        except OSError as error:
            raise not_written(file, error) from error

    def write_json(self, name: str, value: Any) -> None:
        """Replace a file of the folder by a value as JSON."""
        self.write(name, json.dumps(value, indent=1) + "\n")

    def keep_settings(self, text: str, step: int) -> None:
        """Write run.toml, and a copy of it among `starts/` that later starts do not replace.

        step: at which this start goes on.
        """
        starts = self.folder / "starts"
        before = sorted(starts.glob("[0-9]*.toml")) if starts.is_dir() else []
        with suppress(OSError):
            if not before and (older := _text_of(self.folder / "run.toml")):
                self.write("starts/0000.toml", older)  # of a version that kept the last start's alone
        number = 1 + max((int(file.name[:4]) for file in before if file.name[:4].isdigit()), default=0)
        self.write(f"starts/{number:04d}-step-{step:08d}.toml", text)
        self.write("run.toml", text)

    def rows_of_csv(self, name: str) -> int:
        """How many rows a table has, its header not counted; 0 if it is not there or cannot be read."""
        try:
            return max(0, len(_text_of(self.folder / name).splitlines()) - 1)
        except OSError:  # told when a row is to be added
            return 0

    def add_to_csv(self, name: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Append rows to a table that begins with the header, but for those that it has already."""
        file = self.folder / name
        try:
            before = _text_of(file)
            told = set(before.splitlines())
            text = io.StringIO()
            table = csv.writer(text, lineterminator="\n")
            if not before and rows:
                table.writerow(header)
            table.writerows(rows)
            lines = [line for line in text.getvalue().splitlines() if line not in told]
            self.write(name, before + "".join(f"{line}\n" for line in lines))
        except OSError as error:
            raise not_written(file, error) from error

    def write_status(self, status: Status) -> None:
        """Replace status.json; process and time are filled in."""
        self.write_json(STATUS_FILE, asdict(replace(status, pid=os.getpid(), time=time.time())))


def _text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="surrogateescape") if file.exists() else ""


def is_used(folder: Path) -> bool:
    """Whether a run has left anything in the folder."""
    return any((folder / name).exists() for name in ("run.toml", "events.jsonl", "checkpoints"))
