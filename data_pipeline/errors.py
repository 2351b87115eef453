"""What a user's data can have wrong with it; only the front door prints these."""

from __future__ import annotations

from pathlib import Path


class DataInputError(Exception):
    """The user's data or data settings are wrong: one line saying what, where and what to do."""


class RecordError(DataInputError):
    """A damaged or misplaced record of a RecordIO file, and the byte where it was met; -1: missing."""

    def __init__(self, file: str | Path, offset: int, reason: str) -> None:
        super().__init__(f"{file}: byte {offset}: {reason}" if offset >= 0 else f"{file}: {reason}")
        self.file = Path(file)
        self.offset = offset
        self.reason = reason

    def __reduce__(self) -> tuple[type[RecordError], tuple[Path, int, str]]:
        return RecordError, (self.file, self.offset, self.reason)


class DatasetError(DataInputError):
    """A dataset folder that is missing, empty or contradicts itself."""


class PairSetError(DataInputError):
    """A verification pair set or list that cannot be read."""
