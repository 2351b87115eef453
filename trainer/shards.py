"""The head's part of a checkpoint: a file for each rank, read back by any number of ranks.

`head-00000.safetensors` holds rank 0's classes, first to last, of every tensor of the head; the range stands
in the file's metadata. A reader takes from each file the rows of its own classes and nothing else,
straight into the tensors that train.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from trainer.errors import TrainerInputError

_ROWS = 1 << 15  # read at a time: what a resume needs beside the head itself


def shard_name(rank: int) -> str:
    """The file name of a rank's shard."""
    return f"head-{rank:05d}.safetensors"


def write_shard(file: Path, tensors: Mapping[str, Tensor], class_range: tuple[int, int], of: int) -> None:
    """Write tensors whose dim 0 is the classes [first, last) of `of`."""
    first, last = class_range
    metadata = {"first_class": str(first), "last_class": str(last), "num_classes": str(of)}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file, metadata=metadata)


def read_classes(files: list[Path], class_range: tuple[int, int], into: Mapping[str, Tensor]) -> None:
    """Fill tensors whose dim 0 is the classes [first, last) from the shards that hold them, block by block.

    Raises TrainerInputError if a file is no shard, has other tensors, or if classes are missing.
    """
    first, last = class_range
    have = first
    for file in files:
        if have >= last:
            break
        try:
            with safe_open(file, framework="pt") as shard:
                metadata = shard.metadata() or {}
                begin, end = int(metadata["first_class"]), int(metadata["last_class"])
                if not begin <= have < end:
                    continue
                stop = min(end, last)
                if set(shard.keys()) != set(into):
                    raise ValueError(f"it has {sorted(shard.keys())}, {sorted(into)} are needed")
                for name, tensor in into.items():
                    rows = shard.get_slice(name)
                    for low in range(have, stop, _ROWS):
                        high = min(low + _ROWS, stop)
                        tensor[low - first : high - first] = rows[low - begin : high - begin]
                have = stop
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise TrainerInputError(f"{file}: is no readable shard of the head: {reason}") from None
    if have < last:
        raise TrainerInputError(
            f"{files[0].parent}: no shard holds class {have}; classes {first} to {last - 1} are needed"
        )
