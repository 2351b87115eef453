"""Which checkpoint a run goes on from: the newest that is what was written, the same one on every rank."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from trainer.checkpoint import DamagedCheckpoint, checkpoint_steps, folder_of, read_state, verify_checkpoint
from trainer.errors import TrainerInputError
from trainer.ranks import Ranks
from trainer.state import SavedState


@dataclass(frozen=True)
class Sound:
    """A checkpoint every byte of which was compared; damaged: newer ones that are not sound, by step."""

    folder: Path
    state: SavedState
    damaged: dict[int, str]


def newest_sound(run: Path, ranks: Ranks) -> Sound | None:
    """The newest checkpoint in which no rank finds damage; None if there is none at all.

    Rank 0's list counts: listings of a shared file system may differ, the choice must not. Each rank compares
    the checksums of its share of the files. Raises, on one rank, TrainerInputError naming a rank that does
    not see the checkpoint, and if all are damaged.
    """
    steps: list[int] = ranks.gather(list(checkpoint_steps(run)))[0]
    damaged: dict[int, str] = {}
    for step in reversed(steps):
        folder = _seen_by_all(run, step, ranks)
        state, fault = None, None
        with ranks.agreed():
            try:
                state = read_state(folder)
                verify_checkpoint(folder, state, ranks)
            except DamagedCheckpoint as error:
                fault = str(error)
        faults = [words for words in ranks.gather(fault) if words is not None]
        if state is not None and not faults:
            return Sound(folder, state, damaged)
        damaged[step] = faults[0]
    with ranks.agreed():
        if damaged and ranks.is_first:
            raise _none_is_sound(run, damaged)
    return None


def newest_readable(run: Path) -> tuple[Path, SavedState] | None:
    """The newest checkpoint whose state and files' lengths are right, no checksum compared, for a quick look.

    None if there is none at all. Raises TrainerInputError if all are damaged.
    """
    damaged: dict[int, str] = {}
    for step, folder in reversed(checkpoint_steps(run).items()):
        try:
            return folder, read_state(folder)
        except DamagedCheckpoint as error:
            damaged[step] = str(error)
    if damaged:
        raise _none_is_sound(run, damaged)
    return None


def _seen_by_all(run: Path, step: int, ranks: Ranks) -> Path:
    folder = folder_of(run, step)
    with ranks.agreed():
        if not folder.is_dir():
            raise TrainerInputError(
                f"{folder}: rank 0 goes on from this checkpoint, rank {ranks.rank} on "
                f"{socket.gethostname()} does not see it; every machine needs the same --run folder"
            )
    return folder


def _none_is_sound(run: Path, damaged: dict[int, str]) -> TrainerInputError:
    found = "; ".join(damaged.values())
    return TrainerInputError(
        f"--run {run}: has no sound checkpoint to go on from: {found}; put a good copy in its place, or "
        "choose another folder"
    )
