"""Ways to damage a record folder; each gives the folder changed and how many bytes that touched."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Callable
from dataclasses import replace

from tests.data_pipeline.records.naive_records import Folder, base_folders


def _index(folder: Folder) -> bytes:
    return folder.idx or b""


Mutation = Callable[[random.Random, Folder], tuple[Folder, int]]


def some_bytes(rng: random.Random, folder: Folder) -> tuple[Folder, int]:
    """Random bytes of the .rec, up to 64."""
    content = bytearray(folder.rec)
    count = rng.choice((1, 2, 4, 8, 16, 64))
    for _ in range(count):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return replace(folder, rec=bytes(content)), count


def one_bit(rng: random.Random, folder: Folder) -> tuple[Folder, int]:
    """One bit of the .rec."""
    content = bytearray(folder.rec)
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return replace(folder, rec=bytes(content)), 1


def truncation(rng: random.Random, folder: Folder) -> tuple[Folder, int]:
    """The .rec cut anywhere."""
    size = rng.randrange(len(folder.rec))
    return replace(folder, rec=folder.rec[:size]), len(folder.rec) - size


def a_word(rng: random.Random, folder: Folder) -> tuple[Folder, int]:
    """A length, part number, number of labels or magic word set to an extreme, or to something near."""
    content = bytearray(folder.rec)
    offset = rng.choice(folder.parts) + 4 * rng.choice((0, 1, 1, 1, 2))
    old = int.from_bytes(content[offset : offset + 4], "little")
    length, part = old & 0x1FFFFFFF, rng.randrange(8) << 29
    value = rng.choice(
        (
            0xFFFFFFFF,
            0x1FFFFFFF,
            0x7FFFFFFF,
            0x80000000,
            0,
            1,
            0xCED7230A,
            part | length,
            part | 0x1FFFFFFF,
            part | length + rng.choice((-9, -4, -1, 1, 3, 4, 8, 40, 400)) & 0x1FFFFFFF,
            part | len(content) - offset + rng.randint(-12, 12),
        )
    )
    content[offset : offset + 4] = value.to_bytes(4, "little")
    return replace(folder, rec=bytes(content)), 4


def moved_records(rng: random.Random, folder: Folder) -> tuple[Folder, int]:
    """Two pieces that start at records swapped, one left out or one put in twice."""
    starts = [*folder.starts, len(folder.rec)]
    first, second = sorted(rng.sample(range(len(starts) - 1), 2))
    pieces = [folder.rec[begin:end] for begin, end in itertools.pairwise(starts)]
    touched = len(pieces[first]) + len(pieces[second])
    how = rng.randrange(3)
    if how == 0:
        pieces[first], pieces[second] = pieces[second], pieces[first]
    elif how == 1:
        del pieces[first]
    else:
        pieces.insert(first, pieces[second])
    return replace(folder, rec=b"".join(pieces)), touched


def shifted(rng: random.Random, folder: Folder) -> tuple[Folder, int]:
    """Bytes put in or taken out, so that all that follows stands elsewhere."""
    place, count = rng.randrange(len(folder.rec)), rng.randint(1, 12)
    if rng.randrange(2):
        content = folder.rec[:place] + rng.randbytes(count) + folder.rec[place:]
    else:
        content = folder.rec[:place] + folder.rec[place + count :]
    return replace(folder, rec=content), count


def index_bytes(rng: random.Random, folder: Folder) -> tuple[Folder, int]:
    """Random bytes of the .idx, mostly such as stand in one."""
    content = bytearray(_index(folder))
    count = rng.randint(1, 4)
    for _ in range(count):
        content[rng.randrange(len(content))] = (
            rng.choice(b"0123456789\t\n\r -+.ex\0") if rng.random() < 0.8 else rng.randrange(256)
        )
    return replace(folder, idx=bytes(content)), count


def index_numbers(rng: random.Random, folder: Folder) -> tuple[Folder, int]:
    """A key or an offset of the .idx replaced, an extreme or another record's."""
    lines = [line.split(b"\t") for line in _index(folder).splitlines()]
    line = rng.choice(lines)
    line[rng.randrange(2)] = str(
        rng.choice(
            (
                -1,
                0,
                3,
                2**31,
                2**32,
                2**63 - 1,
                2**63 - 4,
                2**63,
                2**64,
                10**30,
                -(2**63),
                -(2**63) - 1,
                len(folder.rec),
                len(folder.rec) - 8,
                rng.choice(folder.parts),
                rng.choice(folder.starts),
                rng.randrange(len(folder.rec)),
            )
        )
    ).encode()
    content = b"".join(b"\t".join(line) + b"\n" for line in lines)
    return replace(folder, idx=content), 20


def index_lines(rng: random.Random, folder: Folder) -> tuple[Folder, int]:
    """Lines of the .idx shuffled, lost, doubled, ended otherwise, or the text cut."""
    lines = _index(folder).splitlines(keepends=True)
    how = rng.randrange(6)
    if how == 0:
        rng.shuffle(lines)
    elif how == 1:
        lines = rng.sample(lines, rng.randint(0, len(lines) - 1))
    elif how == 2:
        lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    elif how == 3:
        lines = [line.replace(b"\n", rng.choice((b"\r\n", b"\n\n", b" \n", b"", b"\r"))) for line in lines]
    elif how == 4:
        lines.append(rng.choice((b"\0" * 40, b"\n\n", b"nonsense", b"\xff\xfe", b"7" * 4000, b" ")))
    else:
        lines = [_index(folder)[: rng.randrange(len(_index(folder)))]]
    return replace(folder, idx=b"".join(lines)), len(_index(folder))


def foreign_index(rng: random.Random, folder: Folder) -> tuple[Folder, int]:
    """The .idx of another file, or none."""
    idx = rng.choice([None, *(other.idx for other in base_folders())])
    return replace(folder, idx=idx), len(_index(folder))


def stated_property(rng: random.Random, folder: Folder) -> tuple[Folder, int]:
    """`property` with other bytes, other numbers, or cut."""
    how = rng.randrange(3)
    if how == 0:
        content = bytearray(folder.stated)
        for _ in range(rng.randint(1, 3)):
            content[rng.randrange(len(content))] = rng.choice(b"0123456789,.- \n\0\xff")
        return replace(folder, stated=bytes(content)), 3
    if how == 1:
        return replace(folder, stated=folder.stated[: rng.randrange(len(folder.stated))]), 4
    numbers = [
        rng.choice((0, -1, 1, 3, 112, 2**31, 2**63, 10**40, 10**5000)) for _ in range(rng.randint(1, 4))
    ]
    sys.set_int_max_str_digits(0)
    content_text = ",".join(map(str, numbers))
    sys.set_int_max_str_digits(4300)
    return replace(folder, stated=content_text.encode()), len(content_text)


MUTATIONS: dict[str, tuple[int, Mutation]] = {
    ".rec: up to 64 bytes": (8, some_bytes),
    ".rec: one bit": (2, one_bit),
    ".rec: cut": (1, truncation),
    ".rec: a word": (4, a_word),
    ".rec: records moved": (1, moved_records),
    ".rec: bytes in or out": (1, shifted),
    ".idx: bytes": (2, index_bytes),
    ".idx: numbers": (2, index_numbers),
    ".idx: lines": (1, index_lines),
    ".idx: foreign or none": (1, foreign_index),
    "property": (1, stated_property),
}
