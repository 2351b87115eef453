"""Embeddings made elsewhere: a `.npy` file, read as far as its bytes reach and never unpickled."""

from __future__ import annotations

import math
import os
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from trainer.errors import TrainerInputError

EXPECTED = "expected floats of shape [images, dim]"


def load_embeddings(file: Path) -> NDArray[np.floating[Any]]:
    """[n, dim] floats of a `.npy` file in the precision it has; dimensions of length 1 behind n are dropped.

    Objects are refused, not unpickled, and what the header states is compared with the file's length before
    memory is asked for. Raises TrainerInputError.
    """
    try:
        with file.open("rb") as stream:
            return _read(file, stream)
    except OSError as error:
        raise TrainerInputError(f"{file}: cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise TrainerInputError(f"{file}: does not fit this machine's memory") from None


def _read(file: Path, stream: BinaryIO) -> NDArray[np.floating[Any]]:
    shape, by_columns, dtype = _header(file, stream)
    if dtype.hasobject:
        raise TrainerInputError(f"{file}: is not a .npy file of numbers: it holds Python objects; {EXPECTED}")
    stated, there = math.prod(shape) * dtype.itemsize, os.fstat(stream.fileno()).st_size - stream.tell()
    if stated > there or min(shape, default=0) < 0:
        raise TrainerInputError(
            f"{file}: is not a .npy file of numbers: its header states {dtype} of shape "
            f"{str(list(shape))[:60]}, more than the {there} bytes behind it"
        )
    row_shape = [size for size in shape[1:] if size != 1] or list(shape[1:2])
    if len(row_shape) != 1 or dtype.kind != "f" or stated == 0:
        raise TrainerInputError(f"{file}: holds {dtype} of shape {list(shape)}; {EXPECTED}")
    numbers: NDArray[np.floating[Any]] = np.fromfile(stream, dtype, math.prod(shape))
    return numbers.reshape(shape, order="F" if by_columns else "C").reshape(shape[0], *row_shape)


def _header(file: Path, stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """(shape, whether columns are consecutive, kind of number); leaves the stream at the first number."""
    try:
        major, _ = np.lib.format.read_magic(stream)
        # Version 3 differs from 2 by UTF-8 in the names of fields, which no array of floats has.
        read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        return read(stream)
    except (ValueError, EOFError, TypeError, RecursionError, SyntaxError, TokenError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it ends early"
        raise TrainerInputError(f"{file}: is not a .npy file of numbers: {reason}") from None
