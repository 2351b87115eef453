"""Files that are there whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_pipeline.files import atomic
from trainer.errors import TrainerInputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` to write to; it takes the path's place when the block ends well.

    Raises TrainerInputError when the place cannot be written to.
    """
    try:
        with atomic.replacing(path) as file:
            yield Path(file.name)
    except OSError as error:
        raise TrainerInputError(f"{path}: cannot be written: {error.strerror or error}") from None
