"""RecordIO read the plain way, byte by byte from the format's description: an oracle for the fuzzer."""

from __future__ import annotations

import re
import struct
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from data_pipeline import RecordWriter

MAGIC = b"\x0a\x23\xd7\xce"


@dataclass(frozen=True)
class Image:
    """An image record's content; labels as their float32 bytes."""

    flag: int
    labels: bytes
    id: int
    payload: bytes
    in_parts: bool


class Naive:
    """The bytes of a .rec and an .idx; idx None: there is none."""

    def __init__(self, rec: bytes, idx: bytes | None) -> None:
        self.rec, self.idx = rec, idx

    def record(self, offset: int) -> tuple[bytes, int] | None:
        """The record at this offset and the offset after it; None if it is damaged or none."""
        if offset % 4:
            return None
        body = b""
        expected = (0, 1)
        at = offset
        while True:
            if at < 0 or self.rec[at : at + 4] != MAGIC or at + 8 > len(self.rec):
                return None
            (word,) = struct.unpack_from("<I", self.rec, at + 4)
            part, length = divmod(word, 1 << 29)
            piece = self.rec[at + 8 : at + 8 + length]
            if part not in expected or len(piece) < length:
                return None
            body += (MAGIC if expected == (2, 3) else b"") + piece
            at += 8 + length + -length % 4
            if part in (0, 3):
                return body, at
            expected = (2, 3)

    def unpacked(self, body: bytes, in_parts: bool = False) -> Image | None:
        """The image in a record; None if it is too short for its header or labels."""
        if len(body) < 24:
            return None
        flag, ident = struct.unpack_from("<I4xQ", body)
        if len(body) < 24 + 4 * flag:
            return None
        labels = body[24 : 24 + 4 * flag] if flag else body[4:8]
        return Image(flag, labels, ident, body[24 + 4 * flag :], in_parts)

    def image(self, offset: int) -> Image | None:
        """The image record at this offset; None if it is damaged or none."""
        found = self.record(offset)
        if found is None:
            return None
        return self.unpacked(found[0], in_parts=self.rec[offset + 7] >> 5 != 0)

    def scanned(self) -> tuple[None, list[int]] | None:
        """Offsets of all records one after the other, None if any is damaged."""
        offsets: list[int] = []
        at = 0
        while at != len(self.rec):
            found = self.record(at)
            if found is None or found[1] > len(self.rec):
                return None
            offsets.append(at)
            at = found[1]
        return None, offsets

    def pairs(self) -> list[tuple[int, int]] | None:
        """(key, offset) of each line of the index, None if any is something else."""
        if self.idx is None:
            return None
        pairs: list[tuple[int, int]] = []
        for line in self.idx.split(b"\n"):
            if not line.strip(b" \t\r\x0b\x0c"):
                continue
            match = re.fullmatch(rb"[ \t\r\x0b\x0c]*(-?[0-9]+)[ \t]+(-?[0-9]+)[ \t\r\x0b\x0c]*", line)
            if match is None:
                return None
            key, offset = (int(number) for number in match.groups())
            if any(not -(2**63) <= number < 2**63 for number in (key, offset)):
                return None
            pairs.append((key, offset))
        return pairs

    def indexed(self) -> tuple[list[int], list[int]] | None:
        """Keys and offsets of an index that fits the file, None if it does not."""
        pairs = self.pairs()
        if pairs is None:
            return None
        keys, offsets = [key for key, _ in pairs], [offset for _, offset in pairs]
        if len(set(keys)) < len(keys):
            return None
        if any(offset < 0 or offset % 4 or offset + 8 > len(self.rec) for offset in offsets):
            return None
        missed = sum(self.rec[offset : offset + 4] != MAGIC for offset in offsets)
        if offsets and (
            self.record(max(offsets)) is None or (len(offsets) > 1 and 2 * missed > len(offsets))
        ):
            return None
        return keys, offsets


@dataclass(frozen=True)
class Folder:
    """The files of a record folder; starts: offset of each record, parts: of each part, of the whole one."""

    rec: bytes
    idx: bytes | None
    stated: bytes
    starts: tuple[int, ...]
    parts: tuple[int, ...]

    def write(self, folder: Path) -> None:
        """Put the files there."""
        for name, content in (("train.rec", self.rec), ("train.idx", self.idx), ("property", self.stated)):
            if content is None:
                (folder / name).unlink(missing_ok=True)
            else:
                (folder / name).write_bytes(content)


@cache
def base_folders() -> tuple[Folder, ...]:
    """Folders of at most 32 records, all of which the reader looks at on opening.

    An insightface folder, one as im2rec writes it in shuffled order, and one of vector labels and records
    in parts.
    """
    rng = np.random.default_rng(0)
    payloads = [rng.bytes(size) for size in (0, 1, 2, 3, 4, 9, 20, 33)]
    magic_label = struct.unpack("<f", MAGIC)[0]
    kinds: list[list[tuple[int, float | list[float], bytes]]] = [
        [
            (0, [9.0, 11.0], b""),
            *((key, float(key > 5), payloads[key - 1] or b"x") for key in range(1, 9)),
            (9, [1.0, 6.0], b""),
            (10, [6.0, 9.0], b""),
        ],
        [(int(key), float(key % 3), payloads[key]) for key in rng.permutation(8)],
        [
            (0, [1.0, 2.0, 3.0], payloads[5]),
            (7, 1.0, b"abcd" + MAGIC + b"efgh"),
            (5, magic_label, MAGIC * 3),
            (3, [magic_label, 4.0], b"ab" + MAGIC + b"c"),
            (2, 0.0, payloads[7] + MAGIC),
            (2**40, [5.0], b""),
        ],
    ]
    folders: list[Folder] = []
    for records, stated in zip(kinds, (b"2,112,112\n", b"3,112,112\n", b"3,112,112\n"), strict=True):
        with tempfile.TemporaryDirectory() as name:
            rec, idx = Path(name) / "a.rec", Path(name) / "a.idx"
            with RecordWriter(rec, idx) as out:
                for key, label, payload in records:
                    out.write(key, label=label, id=key, payload=payload)
            content, index = rec.read_bytes(), idx.read_bytes()
        starts = tuple(int(line.split(b"\t")[1]) for line in index.splitlines())
        parts = tuple(at for at in range(0, len(content), 4) if content[at : at + 4] == MAGIC)
        folders.append(Folder(content, index, stated, starts, parts))
    return tuple(folders)
