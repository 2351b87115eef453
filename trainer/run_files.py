"""The small JSON files of a run's folder, as whoever reads them finds them: `status.json`, `ranks.json`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from data_pipeline.files.typed_json import from_json
from trainer.errors import TrainerInputError

STATUS_FILE, RANKS_FILE = "status.json", "ranks.json"
T = TypeVar("T")
State = Literal["running", "stopped", "finished"]


@dataclass(frozen=True)
class Status:
    """How a run stands. step: steps done; pid: of rank 0; time: unix seconds at which this was written.

    saved_step: of the newest checkpoint that this start wrote or went on from; -1 where there is none.
    """

    status: State
    step: int
    pid: int = 0
    time: float = 0.0
    saved_step: int = -1
    failed_saves: int = 0
    """Checkpoints of this start that could not be written, the run having gone on without."""
    failed_evaluations: int = 0
    """Evaluations of this start that failed, the run having gone on without."""

    def __post_init__(self) -> None:
        if self.step < 0:
            raise ValueError(f"step is 0 or more, got {self.step}")


@dataclass(frozen=True)
class OwnedClasses:
    """A rank's part of the class matrix: classes first to last, last exclusive."""

    rank: int
    classes: tuple[int, int]


@dataclass(frozen=True)
class RankTable:
    """Which rank owns which classes."""

    num_classes: int
    ranks: tuple[OwnedClasses, ...]


def read_status(file: Path) -> Status:
    """A run's status.json. Raises TrainerInputError naming the file and what is wrong with it."""
    return read_file(file, Status)


def read_ranks(file: Path) -> RankTable:
    """A run's ranks.json. Raises TrainerInputError naming the file and what is wrong with it."""
    return read_file(file, RankTable)


def read_file(file: Path, kind: type[T]) -> T:
    """A JSON file as a dataclass; keys that a later version may have added are passed over.

    Raises TrainerInputError naming the file and the field.
    """
    try:
        return from_json(file.read_text(encoding="utf-8"), kind, more=True)
    except OSError as error:
        raise TrainerInputError(f"{file}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise TrainerInputError(f"{file}: is not what cosface writes there: {error}") from None
