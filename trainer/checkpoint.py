"""Checkpoints: whole or not there, readable by any number of ranks, never a pickle.

    checkpoints/step-00001000/
        backbone.safetensors      weights and buffers (model.…) and their running average (average.…)
        optimizer.safetensors     the backbone's momentum
        head-00000.safetensors    rank 0's classes, and so on for every rank (shards.py)
        state.json                step, position, model, and every file's length and CRC-32

All ranks write into `.step-00001000.tmp`, which rank 0 renames when everything is on the disk; what a crash
leaves behind is such a temporary folder, which nobody reads and the run's next start removes.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from data_pipeline.files.atomic import sync
from trainer.errors import TrainerInputError, TrainingFailed
from trainer.ranks import Ranks
from trainer.shards import read_classes, shard_name, write_shard
from trainer.state import FileEntry, SavedState

BACKBONE = "backbone.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
_NAME = re.compile(r"step-(\d{8,})")
_LEFTOVER = re.compile(r"\.step-\d{8,}\.(tmp|old)")
_BLOCK = 1 << 22


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


def latest_checkpoint(run: Path) -> Path | None:
    """The newest finished checkpoint of a run; None if it has none."""
    return next(reversed(checkpoint_steps(run).values()), None)


def newest_for_all(run: Path, ranks: Ranks) -> Path | None:
    """Rank 0's newest checkpoint: listings of a shared file system may differ, the choice must not.

    Raises TrainerInputError naming a rank that does not see it.
    """
    newest: Path | None = None
    step = ranks.gather(max(checkpoint_steps(run), default=-1))[0]
    if step >= 0:
        newest = _folder(run, step)
        with ranks.agreed():
            if not newest.is_dir():
                raise TrainerInputError(
                    f"{newest}: rank 0 goes on from this checkpoint, rank {ranks.rank} on "
                    f"{socket.gethostname()} does not see it; every machine needs the same --run folder"
                )
    return newest


def remove_leftovers(run: Path) -> None:
    """Remove what a run that was killed was writing or removing; only for who holds the run's lock."""
    folder = run / "checkpoints"
    for entry in list(folder.iterdir()) if folder.is_dir() else []:
        if _LEFTOVER.fullmatch(entry.name):
            shutil.rmtree(entry, ignore_errors=True)


def read_state(checkpoint: Path) -> SavedState:
    """A checkpoint's state.json, the files' lengths checked. Raises TrainerInputError naming the file."""
    try:
        state = SavedState.from_json((checkpoint / STATE).read_text(encoding="utf-8"))
        for name, entry in state.files.items():
            size = (checkpoint / name).stat().st_size
            if size != entry.bytes:
                raise _damaged(checkpoint / name, f"it has {size} bytes, {entry.bytes} were written")
    except OSError as error:
        raise _damaged(Path(error.filename or checkpoint), error.strerror or str(error)) from None
    except ValueError as error:
        raise _damaged(checkpoint / STATE, str(error)) from None
    return state


def load_tensors(file: Path, prefix: str = "") -> dict[str, Tensor]:
    """A file's tensors whose names begin with `prefix`, without it. Raises TrainerInputError."""
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise _damaged(file, str(error)) from None
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def verify_checkpoint(checkpoint: Path, state: SavedState, ranks: Ranks) -> None:
    """Compare every file's checksum, each on one of the ranks. Raises TrainerInputError naming the file."""
    with ranks.agreed():
        for name in list(state.files)[ranks.rank :: ranks.world_size]:
            if _crc32(checkpoint / name) != state.files[name].crc32:
                raise _damaged(checkpoint / name, "its checksum is not the one that was written")


def load_head(
    checkpoint: Path, state: SavedState, class_range: tuple[int, int], head: Mapping[str, Tensor]
) -> None:
    """Fill a rank's head, the classes [first, last), whatever ranks had written it.

    Raises TrainerInputError if classes are missing or if the head's tensors are others.
    """
    shards = [checkpoint / shard_name(rank) for rank in range(state.world_size)]
    read_classes(shards, class_range, head)


def save_checkpoint(run: Path, state: SavedState, tensors: Tensors, ranks: Ranks, keep: int) -> Path:
    """Write a checkpoint together with all ranks, then remove all but the newest `keep`.

    Raises TrainingFailed if it cannot be written; those before it are left as they were.
    """
    final = _folder(run, state.step)
    temporary = final.with_name(f".{final.name}.tmp")
    try:
        with ranks.agreed(), _named(temporary):
            if ranks.is_first:
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir(parents=True)
        with ranks.agreed(), _named(temporary):
            written = _write_own(temporary, state, tensors, ranks)
        entries = {name: FileEntry(**entry) for part in ranks.gather(written) for name, entry in part.items()}
        with ranks.agreed(), _named(final):
            if ranks.is_first:
                text = replace(state, world_size=ranks.world_size, files=entries).to_json()
                (temporary / STATE).write_text(text, encoding="utf-8")
                sync(temporary / STATE)
                sync(temporary)
                shutil.rmtree(final, ignore_errors=True)
                os.replace(temporary, final)
                sync(final.parent)
                for old in list(checkpoint_steps(run).values())[:-keep]:
                    _remove(old)
    except BaseException:
        if ranks.is_first:
            shutil.rmtree(temporary, ignore_errors=True)
        raise
    return final


def _folder(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


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
    going = checkpoint.with_name(f".{checkpoint.name}.old")
    shutil.rmtree(going, ignore_errors=True)
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


@contextmanager
def _named(place: Path) -> Iterator[None]:
    """Turn what the disk refuses into the run's own error."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise TrainingFailed(
            f"the checkpoint {place} could not be written: {error}; the one before it is as it was"
        ) from error


def _damaged(file: Path, reason: str) -> TrainerInputError:
    return TrainerInputError(
        f"{file}: the checkpoint is damaged: {reason}; remove its folder to go on from the one before"
    )
