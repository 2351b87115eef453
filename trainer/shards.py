"""The head's part of a checkpoint: a file for each rank, read back by any number of ranks.

`head-00000.safetensors` holds rank 0's classes, first to last, of every tensor of the head; the range stands
in the file's metadata. A reader takes from each file the rows of its own classes and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from trainer.errors import TrainerInputError


def shard_name(rank: int) -> str:
    """The file name of a rank's shard."""
    return f"head-{rank:05d}.safetensors"


def write_shard(file: Path, tensors: Mapping[str, Tensor], class_range: tuple[int, int], of: int) -> None:
    """Write tensors whose dim 0 is the classes [first, last) of `of`."""
    first, last = class_range
    metadata = {"first_class": str(first), "last_class": str(last), "num_classes": str(of)}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file, metadata=metadata)


def read_classes(files: list[Path], class_range: tuple[int, int]) -> dict[str, Tensor]:
    """The rows [first, last) of every tensor, put together from the shards that hold them.

    Raises TrainerInputError if a file is no shard or if classes are missing.
    """
    first, last = class_range
    parts: dict[str, list[Tensor]] = {}
    have = first
    for file in files:
        try:
            with safe_open(file, framework="pt") as shard:
                metadata = shard.metadata() or {}
                begin, end = int(metadata["first_class"]), int(metadata["last_class"])
                low, high = max(begin, have), min(end, last)
                if low != have or (low >= high and parts):
                    continue
                # With no class of one's own the shapes still come from the first file.
                for name in shard.keys():  # noqa: SIM118 (no mapping)
                    rows = shard.get_slice(name)[low - begin : max(low, high) - begin]
                    parts.setdefault(name, []).append(rows)
                have = max(have, high)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise TrainerInputError(f"{file}: is no readable shard of the head: {error}") from None
    if have < last or not parts:
        raise TrainerInputError(
            f"{files[0].parent}: no shard holds class {have}; classes {first} to {last - 1} are needed"
        )
    return {name: torch.cat(rows) for name, rows in parts.items()}
