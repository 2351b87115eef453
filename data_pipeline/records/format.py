"""The bytes of dmlc RecordIO, the container of mxnet's datasets.

A record is stored as one or more parts, each on a 4-byte boundary:

    uint32 0xced7230a | uint32 part << 29 | length | length bytes | zeros up to a multiple of 4

`part` is 0 for a whole record and 1, 2, 3 for the first, a middle and the last part of one that held the
magic word on a 4-byte boundary: it is cut there, the word itself left out, and put back on reading. So the
word on a 4-byte boundary always starts a part. Inside a record stands mxnet's image header (`IRHeader`):
uint32 flag, float32 label, uint64 id, uint64 id2, then `flag` float32 labels, then the payload. The index
is text: one line `key<TAB>byte offset` a record.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

MAGIC = 0xCED7230A
MAGIC_BYTES = struct.pack("<I", MAGIC)
PART = struct.Struct("<II")
# mxnet's IRHeader: number of labels, scalar label, id, id2.
HEADER = struct.Struct("<IfQQ")
LENGTH_BITS = 29
LENGTH_MASK = (1 << LENGTH_BITS) - 1


def encode(label: float | Sequence[float] | npt.NDArray[np.float32], id: int, payload: bytes) -> bytes:
    """One image record as it stands in a file: header, labels and payload, framed.

    Raises ValueError for an id outside 0 … 2**64 - 1 or a record of 512 MiB or more, OverflowError for a
    label beyond float32.
    """
    return frame(image_header(label, id) + payload)


def image_header(label: float | Sequence[float] | npt.NDArray[np.float32], id: int, id2: int = 0) -> bytes:
    """mxnet's header of an image record, with its labels; a sequence of none is the scalar 0."""
    try:
        if isinstance(label, int | float | np.integer | np.floating):
            return HEADER.pack(0, float(label), id, id2)
        vector = np.asarray(label, dtype="<f4")
        return HEADER.pack(vector.size, 0.0, id, id2) + vector.tobytes()
    except struct.error:
        raise ValueError(f"a record's ids must lie between 0 and 2**64 - 1, got {id!r} and {id2!r}") from None


def frame(body: bytes) -> bytes:
    """Any bytes as one record of a file: cut into parts at the magic word, padded to 4 bytes.

    Raises ValueError for 512 MiB or more, which the length field cannot hold.
    """
    if len(body) > LENGTH_MASK:
        raise ValueError(f"a record must be smaller than {LENGTH_MASK + 1} bytes, got {len(body)}")
    parts: list[bytes] = []
    start = 0
    found = body.find(MAGIC_BYTES)
    while found >= 0:
        if found % 4 == 0:
            parts += [
                PART.pack(MAGIC, (2 if start else 1) << LENGTH_BITS | found - start),
                body[start:found],
            ]
            start = found + 4
        found = body.find(MAGIC_BYTES, found + (4 if found % 4 == 0 else 1))
    parts += [PART.pack(MAGIC, (3 if start else 0) << LENGTH_BITS | len(body) - start), body[start:]]
    return b"".join(parts) + bytes(-len(body) % 4)
