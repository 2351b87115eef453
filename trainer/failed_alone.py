"""What one rank meets alone, as one line: which step and rank it was, what, and where."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from partial_fc.errors import CollectiveError
from trainer.errors import StepFailed, TrainingFailed
from trainer.ranks import INPUT_ERRORS, FailedElsewhere, Ranks

OUT_OF_MEMORY = (MemoryError, torch.OutOfMemoryError)
_SAID = (TrainingFailed, FailedElsewhere, CollectiveError, torch.distributed.DistError, *INPUT_ERRORS)


@contextmanager
def failing_alone(step: int, ranks: Ranks) -> Iterator[None]:
    """Raise StepFailed, caused by it, for any error of the block that is not in words for a user already."""
    try:
        yield
    except _SAID:
        raise
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(at.filename).name}:{at.lineno}"
        hint = "; a smaller --data.batch-size needs less memory" if isinstance(error, OUT_OF_MEMORY) else ""
        raise StepFailed(
            f"step {step}, rank {ranks.rank} on {socket.gethostname()}: {in_words(error)} ({place}){hint}"
        ) from error


def in_words(error: Exception) -> str:
    """An error's type and the first line of its message."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:300]}"
