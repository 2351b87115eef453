"""Checkpoints: whole or not there, readable by any number of ranks, never a pickle.

    checkpoints/step-00001000/
        backbone.safetensors      weights and buffers (model.…) and their running average (average.…)
        optimizer.safetensors     the backbone's momentum
        head-00000.safetensors    rank 0's classes, and so on for every rank (shards.py)
        state.json                step, position, model, and every file's length and CRC-32

All ranks write into a hidden folder beside it, whose name nobody can guess and which rank 0 renames when
everything is on the disk; what a crash leaves behind is such a folder, which nobody reads and the run's next
start removes. Which checkpoint a run goes on from is `sound.py`'s to say.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import zlib
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from data_pipeline.files.atomic import leftovers, sync
from trainer.errors import TrainerInputError, TrainingFailed
from trainer.ranks import Ranks
from trainer.shards import read_classes, shard_name, write_shard
from trainer.state import FileEntry, OtherFormat, SavedState

BACKBONE = "backbone.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
_NAME = re.compile(r"step-(\d{8,})")
_LEFTOVER = re.compile(r"\.step-\d{8,}\.([0-9a-f]{16}\.)?(tmp|old)")
_BLOCK = 1 << 22
_OTHER_SUM = "its checksum is not the one that was written"
T = TypeVar("T")


class DamagedCheckpoint(TrainerInputError):
    """A checkpoint that is not what was written; the one before it may still be good."""


class NotWritten(TrainingFailed):
    """The disk refused a checkpoint to rank `rank`; raised on every rank. Those before it stay."""

    def __init__(self, rank: int, message: str) -> None:
        super().__init__(message)
        self.rank = rank


@dataclass(frozen=True)
class Tensors:
    """A rank's tensors: backbone and optimizer are the same on all ranks, head is this rank's classes."""

    backbone: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    head: Mapping[str, Tensor]
    class_range: tuple[int, int]


def checkpoint_steps(run: Path) -> dict[int, Path]:
    """The finished checkpoints of a run by step, in order."""
    folder = run / "checkpoints"
    found = {}
    if folder.is_dir():
        for entry in folder.iterdir():
            if match := _NAME.fullmatch(entry.name):
                found[int(match[1])] = entry
    return dict(sorted(found.items()))


def remove_leftovers(run: Path) -> None:
    """Remove what a run that was killed was writing or removing; only for who holds the run's lock."""
    folder = run / "checkpoints"
    for entry in list(folder.iterdir()) if folder.is_dir() else []:
        if _LEFTOVER.fullmatch(entry.name):
            shutil.rmtree(entry, ignore_errors=True)
    for folder in (run, run / "evaluation", run / "starts"):
        for entry in leftovers(folder) if folder.is_dir() else []:
            if entry.is_file():
                entry.unlink(missing_ok=True)


def read_state(checkpoint: Path) -> SavedState:
    """A checkpoint's state.json, the files' lengths checked.

    Raises DamagedCheckpoint naming the file, and TrainerInputError if another version wrote it.
    """
    try:
        state = SavedState.from_json((checkpoint / STATE).read_text(encoding="utf-8"))
        for name, entry in state.files.items():
            size = (checkpoint / name).stat().st_size
            if size != entry.bytes:
                raise _damaged(checkpoint / name, f"it has {size} bytes, {entry.bytes} were written")
    except OSError as error:
        raise _damaged(Path(error.filename or checkpoint), error.strerror or str(error)) from None
    except OtherFormat as error:
        raise TrainerInputError(f"{checkpoint / STATE}: {error}; use the version that wrote it") from None
    except ValueError as error:
        raise _damaged(checkpoint / STATE, str(error)) from None
    return state


def load_tensors(file: Path, entry: FileEntry | None = None) -> dict[str, Tensor]:
    """A file's tensors. entry: what was written; then its checksum is compared, in the same reading.

    Raises DamagedCheckpoint.
    """
    try:
        content = file.read_bytes()
        if entry is not None and zlib.crc32(content) != entry.crc32:
            raise _damaged(file, _OTHER_SUM)
        return load(content)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise _damaged(file, str(error)) from None


def verify_checkpoint(checkpoint: Path, state: SavedState, ranks: Ranks) -> None:
    """Compare the checksums of this rank's share of the files. Raises DamagedCheckpoint naming the file."""
    for name in list(state.files)[ranks.rank :: ranks.world_size]:
        if _crc32(checkpoint / name) != state.files[name].crc32:
            raise _damaged(checkpoint / name, _OTHER_SUM)


def load_head(
    checkpoint: Path, state: SavedState, class_range: tuple[int, int], head: Mapping[str, Tensor]
) -> None:
    """Fill a rank's head, the classes [first, last), whatever ranks had written it.

    Raises TrainerInputError if classes are missing or if the head's tensors are others.
    """
    shards = [checkpoint / shard_name(rank) for rank in range(state.world_size)]
    read_classes(shards, class_range, head)


def save_checkpoint(
    run: Path, state: SavedState, tensors: Tensors, ranks: Ranks, keep: int, unsound: Collection[int] = ()
) -> Path:
    """Write a checkpoint together with all ranks, then remove all but the newest `keep`.

    unsound: steps of checkpoints that are known to be damaged. They do not count among those that are kept,
    and stay until the run, which went back before them, has come by there again.
    Raises NotWritten, on every rank, if the disk does not take it; those before it are left as they were.
    """
    final = folder_of(run, state.step)
    temporary = final.with_name(ranks.gather(f".{final.name}.{secrets.token_hex(8)}.tmp")[0])

    def finish() -> None:
        text = replace(state, world_size=ranks.world_size, files=entries).to_json()
        (temporary / STATE).write_text(text, encoding="utf-8")
        sync(temporary / STATE)
        sync(temporary)
        if final.exists():  # damaged, or the run would not write this step again
            _remove(final)
        os.replace(temporary, final)
        sync(final.parent)

    try:
        _together(ranks, final, lambda: temporary.mkdir(parents=True) if ranks.is_first else None)
        written = _together(ranks, final, lambda: _write_own(temporary, state, tensors, ranks))
        entries = {name: FileEntry(**entry) for part in ranks.gather(written) for name, entry in part.items()}
        _together(ranks, final, lambda: finish() if ranks.is_first else None)
    except BaseException:
        if ranks.is_first:
            shutil.rmtree(temporary, ignore_errors=True)
        raise
    if ranks.is_first:
        _prune(run, state.step, keep, set(unsound) - {state.step})
    return final


def folder_of(run: Path, step: int) -> Path:
    """Where the checkpoint of a step is, or would be."""
    return run / "checkpoints" / f"step-{step:08d}"


def _together(ranks: Ranks, final: Path, work: Callable[[], T]) -> T:
    """What the work returns, if the disk refused it to no rank; otherwise NotWritten on every rank."""
    refused = None
    with ranks.agreed():  # what is no matter of the disk ends the run here
        try:
            result = work()
        except (OSError, SafetensorError) as error:
            refused = str(error)
    for rank, reason in enumerate(ranks.gather(refused)):
        if reason is not None:
            on = f" on rank {rank}" if ranks.world_size > 1 else ""
            raise NotWritten(
                rank,
                f"the checkpoint {final} could not be written{on}: {reason}; the one before it is as it was",
            )
    return result


def _prune(run: Path, step: int, keep: int, unsound: set[int]) -> None:
    """Remove all but the newest `keep` sound ones, and this step's; a damaged one when its step is behind."""
    found = checkpoint_steps(run)
    kept = {step, *[at for at in found if at not in unsound][-keep:], *(at for at in unsound if at > step)}
    for at, folder in found.items():
        if at not in kept:
            with suppress(OSError):  # tried again after the next one
                _remove(folder)


def _write_own(folder: Path, state: SavedState, tensors: Tensors, ranks: Ranks) -> dict[str, dict[str, int]]:
    files = [folder / shard_name(ranks.rank)]
    write_shard(files[0], tensors.head, tensors.class_range, state.model.num_classes)
    if ranks.is_first:
        for name, content in ((BACKBONE, tensors.backbone), (OPTIMIZER, tensors.optimizer)):
            files.append(folder / name)
            save_file({key: value.contiguous() for key, value in content.items()}, files[-1])
    for file in files:
        sync(file)
    return {file.name: asdict(FileEntry(file.stat().st_size, _crc32(file))) for file in files}


def _remove(checkpoint: Path) -> None:
    """Take a checkpoint away; under another name first, so that half of one is never taken for whole."""
    going = checkpoint.with_name(f".{checkpoint.name}.{secrets.token_hex(8)}.old")
    os.replace(checkpoint, going)
    shutil.rmtree(going, ignore_errors=True)


def _crc32(file: Path) -> int:
    value = 0
    try:
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                value = zlib.crc32(block, value)
    except OSError as error:
        raise _damaged(file, error.strerror or str(error)) from None
    return value


def _damaged(file: Path, reason: str) -> DamagedCheckpoint:
    return DamagedCheckpoint(f"{file}: the checkpoint is damaged: {' '.join(reason.split())}")
