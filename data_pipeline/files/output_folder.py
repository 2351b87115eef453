"""A folder that is to be written: it must not be there yet, or be empty."""

from __future__ import annotations

from pathlib import Path

from data_pipeline.errors import DatasetError


def is_in_use(folder: Path) -> bool:
    """Whether something is there already. Raises OSError if that cannot be seen."""
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


def in_use(folder: str | Path) -> DatasetError:
    """What to raise then."""
    return DatasetError(f"{folder}: already exists; name another folder or remove this one")
