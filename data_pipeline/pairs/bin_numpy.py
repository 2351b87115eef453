"""What stands for numpy's arrays and numbers in a `.bin`: made of checked bytes, not by its pickle."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

_CODE = re.compile(r"[<>=|]?(\?|b1|[ui][1248]|f[248])")
_NAMES = {"bool": "?", "uint8": "u1"}


class Refused(Exception):
    """What in the file is not a pair set."""


class Dtype:
    """Stands for numpy.dtype of bools, whole numbers and floats."""

    def __init__(self, code: Any, *_flags: Any) -> None:
        self.name = code.decode("ascii", "replace") if isinstance(code, bytes) else code
        known = _CODE.fullmatch(_NAMES.get(self.name, self.name)) if isinstance(self.name, str) else None
        if known is None:
            raise Refused(f"a numpy array of {self.name!r}, only bytes, bools and numbers are expected")
        self.numpy: np.dtype[Any] = np.dtype(known[0])

    def __setstate__(self, state: Any) -> None:
        """Only the byte order is of interest."""
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        order = order.decode("ascii", "replace") if isinstance(order, bytes) else order
        if order in ("<", ">"):
            self.numpy = self.numpy.newbyteorder(order)  # type: ignore[arg-type]


class Array:
    """Stands for numpy.ndarray of one dimension, as its bytes."""

    def __init__(self) -> None:
        self.content: bytes | bytearray = b""
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)
        self.name = "uint8"

    def __setstate__(self, state: Any) -> None:
        if not (isinstance(state, tuple) and len(state) == 5):
            raise Refused("a numpy array whose state has not five parts")
        _version, shape, dtype, _fortran, content = state
        self.fill(content, dtype, shape)

    def fill(self, content: Any, dtype: Any, shape: Any) -> Array:
        """Takes the bytes after checking them against dtype and shape."""
        if not isinstance(dtype, Dtype) or not isinstance(content, bytes | bytearray):
            raise Refused("a numpy array that does not hold bytes, bools or numbers")
        flat = isinstance(shape, tuple) and sum(size != 1 for size in shape) <= 1
        count = max([1, *shape] if 0 not in shape else [0]) if flat else 0
        if not flat or len(content) != count * dtype.numpy.itemsize:
            raise Refused(
                f"a numpy array of shape {shape!r} with {len(content)} bytes, one dimension is expected"
            )
        self.content, self.dtype, self.name = content, dtype.numpy, dtype.name
        return self

    def values(self) -> list[bool | int | float]:
        """Its elements, as Python's own numbers."""
        numbers: npt.NDArray[Any] = np.frombuffer(self.content, dtype=self.dtype)
        return list(numbers.tolist())


def reconstruct(*_arguments: Any) -> Array:
    """Stands for numpy.core.multiarray._reconstruct; what it makes gets its state afterwards."""
    return Array()


def from_buffer(content: Any, dtype: Any, shape: Any, _order: Any) -> Array:
    """Stands for numpy.core.numeric._frombuffer, protocol 5's way."""
    return Array().fill(content, dtype, shape)


def scalar(dtype: Any, content: Any) -> bool | int | float:
    """Stands for numpy.core.multiarray.scalar, by which a single number of numpy's is written."""
    return Array().fill(content, dtype, ()).values()[0]
