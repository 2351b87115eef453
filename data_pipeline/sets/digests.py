"""What tells one column of numbers, or one list of names, from another: short hashes of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

_AT_ONCE = 1 << 20  # numbers
_DIGEST_BYTES = 12


class Hash:
    """BLAKE2b over what it is given, in its order; `hexdigest` is 24 letters."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=_DIGEST_BYTES)

    def numbers(self, column: npt.NDArray[Any], dtype: str) -> None:
        """A column [n] as numbers of this dtype, such as "<i4"."""
        for start in range(0, len(column), _AT_ONCE):
            self._hash.update(np.ascontiguousarray(column[start : start + _AT_ONCE], dtype=dtype).data)

    def piece(self, content: bytes | npt.NDArray[np.uint8]) -> None:
        """Bytes, told from the same bytes cut in other places."""
        self._hash.update(len(content).to_bytes(8, "little"))
        self._hash.update(content if isinstance(content, bytes) else content.data)

    def hexdigest(self) -> str:
        """24 letters of 0-9a-f."""
        return self._hash.hexdigest()


def digest_of_numbers(column: npt.NDArray[Any], dtype: str) -> str:
    """Of a column [n] as numbers of this dtype; about 0.9 GB/s."""
    made = Hash()
    made.numbers(column, dtype)
    return made.hexdigest()


def digest_of_texts(texts: Iterable[str]) -> str:
    """Of texts in their order; file names that are no UTF-8 as `os.fsdecode` made them."""
    made = Hash()
    for text in texts:
        made.piece(text.encode("utf-8", "surrogateescape"))
    return made.hexdigest()
