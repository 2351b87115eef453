"""Our reader and writer against the original `mxnet.recordio`, in both directions."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from data_pipeline import RecordReader, RecordWriter
from data_pipeline.records.format import HEADER, LENGTH_MASK, MAGIC, PART
from tests.data_pipeline.records.original_mxnet import original, packed

pytestmark = pytest.mark.mxnet

WORD = struct.pack("<I", MAGIC)
# The magic word read as a float32 label.
MAGIC_LABEL = struct.unpack("<f", WORD)[0]
Content = tuple[float | list[float], int, bytes]


def noise(size: int) -> bytes:
    return np.random.default_rng(size).bytes(size)


def sizes() -> list[int]:
    powers = [2**power + step for power in range(7, 21) for step in (-1, 0, 1)]
    return [*range(71), *(size for size in powers if size <= 1 << 20)]


def with_magic() -> list[bytes]:
    """The magic word at every place of payloads around a word's size, and several times in many ways."""
    lone = [noise(before) + WORD + noise(after) for before in range(9) for after in range(5)]
    several = [
        WORD * 2,
        WORD * 7,
        WORD + b"abcd" + WORD,
        WORD + b"abc" + WORD,
        b"abcd" + WORD + WORD + b"efgh" + WORD + b"x",
        b"a" + WORD * 3 + b"bcd" + WORD,
        WORD[:1] + WORD * 2,
        WORD[:2] + WORD + WORD[2:],
        WORD[:3] + WORD + WORD[:3],
        noise(1 << 16) + WORD + noise(1 << 16) + WORD,
        b"".join(noise(4 * count) + WORD for count in range(40)),
    ]
    return [*lone, *several]


def contents() -> dict[str, list[Content]]:
    labels: list[float | list[float]] = [
        0.0,
        -0.0,
        1.5,
        16_777_216.0,
        float("inf"),
        MAGIC_LABEL,
        [7.0],
        [1.0, 2.0],
        [0.25, -1.0, 3.0, 4.0, 5.0],
        [float(number) for number in range(512)],
        [MAGIC_LABEL, MAGIC_LABEL],
        [1.0, MAGIC_LABEL, 3.0],
    ]
    low = int.from_bytes(WORD, "little")
    ids = [0, 1, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1, low, low << 32, low << 32 | low, low << 16]
    return {
        "sizes": [(float(size), size, noise(size)) for size in sizes()],
        "magic": [(float(place), place, payload) for place, payload in enumerate(with_magic())],
        "labels": [
            (label, place, payload) for place, label in enumerate(labels) for payload in (b"", b"jpeg", WORD)
        ],
        "ids": [(3.0, ident, b"payload") for ident in ids],
    }


def write_ours(folder: Path, records: list[Content]) -> tuple[Path, Path]:
    rec, idx = folder / "ours.rec", folder / "ours.idx"
    with RecordWriter(rec, idx) as out:
        for key, (label, ident, payload) in enumerate(records):
            out.write(key, label=label, id=ident, payload=payload)
    return rec, idx


def write_theirs(folder: Path, records: list[Content]) -> tuple[Path, Path]:
    rec, idx = folder / "theirs.rec", folder / "theirs.idx"
    out = original().MXIndexedRecordIO(str(idx), str(rec), "w")
    for key, (label, ident, payload) in enumerate(records):
        out.write_idx(key, packed(label, ident, payload))
    out.close()
    return rec, idx


def check_theirs(rec: Path, idx: Path, records: list[Content]) -> None:
    """The original reads these records, by key and one after the other."""
    mxnet = original()
    by_key = mxnet.MXIndexedRecordIO(str(idx), str(rec), "r")
    in_turn = mxnet.MXRecordIO(str(rec), "r")
    for key, (label, ident, payload) in enumerate(records):
        record = by_key.read_idx(key)
        assert in_turn.read() == record
        header, content = mxnet.unpack(record)
        assert (header.id, header.id2, content == payload) == (ident, 0, True)
        assert np.array_equal(np.float32(header.label), np.float32(label))
    assert in_turn.read() is None
    by_key.close()
    in_turn.close()


def check_ours(rec: Path, idx: Path | None, records: list[Content], keys: list[int]) -> None:
    """We read these records, by key and vectorised."""
    with RecordReader(rec, idx) as reader:
        assert list(reader.keys()) == keys
        for key, (label, ident, payload) in zip(keys, records, strict=True):
            record = reader[key]
            assert (record.id, record.payload == payload) == (ident, True)
            assert np.array_equal(record.label, np.float32(label))
        located = reader.locate(np.arange(len(records)))
        for place, (label, _, payload) in enumerate(records):
            vector = label if isinstance(label, list) else []
            assert located.flag[place] == len(vector)
            assert located.label[place] == np.float32(vector[0] if vector else label)
            if vector:
                found = reader.vectors(np.array([place]), len(vector))
                assert np.array_equal(found, np.float32([vector]))
            if located.begin[place] >= 0:
                assert bytes(reader.buffer[located.begin[place] : located.end[place]]) == payload
        assert reader.unindexed_bytes == 0


@pytest.mark.parametrize("kind", list(contents()))
def test_both_write_the_same_bytes_and_read_them(tmp_path: Path, kind: str) -> None:
    records = contents()[kind]
    ours, theirs = write_ours(tmp_path, records), write_theirs(tmp_path, records)
    assert ours[0].read_bytes() == theirs[0].read_bytes()
    assert ours[1].read_bytes() == theirs[1].read_bytes()
    check_theirs(*ours, records)
    check_ours(*theirs, records, list(range(len(records))))
    idents = [ident for _, ident, _ in records]
    usable = len(set(idents)) == len(idents) and max(idents) < 2**63
    check_ours(theirs[0], None, records, idents if usable else list(range(len(records))))


def test_an_empty_vector_is_the_scalar_0_to_both(tmp_path: Path) -> None:
    records: list[Content] = [([], 5, b"payload")]
    ours, theirs = write_ours(tmp_path, records), write_theirs(tmp_path, records)
    assert ours[0].read_bytes() == theirs[0].read_bytes()
    check_ours(*theirs, [(0.0, 5, b"payload")], [0])


def test_records_without_an_image_header(tmp_path: Path) -> None:
    """Records of other kinds may be shorter than the header: found by a scan, refused when read as images."""
    rec = tmp_path / "a.rec"
    out = original().MXRecordIO(str(rec), "w")
    bodies = [b"", b"a", b"abcd", WORD, WORD * 2, b"x" * 23]
    for body in bodies:
        out.write(body)
    out.close()
    with RecordReader(rec) as reader:
        assert list(reader.keys()) == list(range(len(bodies)))


def test_hundreds_of_thousands_of_records(tmp_path: Path) -> None:
    count = 300_000
    pool = noise(1 << 16)
    payloads = [pool[place % 60_000 : place % 60_000 + place % 41] for place in range(count)]
    records: list[Content] = [(float(place % 1000), place, payload) for place, payload in enumerate(payloads)]
    ours, theirs = write_ours(tmp_path, records), write_theirs(tmp_path, records)
    assert ours[0].read_bytes() == theirs[0].read_bytes()
    assert ours[1].read_bytes() == theirs[1].read_bytes()

    mxnet = original()
    in_turn = mxnet.MXRecordIO(str(ours[0]), "r")
    for label, ident, payload in records:
        assert in_turn.read() == HEADER.pack(0, label, ident, 0) + payload
    assert in_turn.read() is None
    in_turn.close()

    with RecordReader(*theirs) as reader, RecordReader(theirs[0]) as rebuilt:
        assert np.array_equal(reader.offsets, rebuilt.offsets)
        assert np.array_equal(reader.key_array, rebuilt.key_array)
        located = reader.locate(np.arange(count))
        assert np.array_equal(located.label, np.arange(count) % 1000)
        content = theirs[0].read_bytes()
        spans = zip(located.begin.tolist(), located.end.tolist(), strict=True)
        assert [content[begin:end] for begin, end in spans] == payloads


def beyond_4_gib(rec: Path, idx: Path) -> dict[int, bytes]:
    """A whole file of 4.5 GiB, nearly all of it holes: small records before, between and after huge ones."""
    offset = 0
    small: dict[int, bytes] = {}
    with rec.open("wb") as file, idx.open("w") as index:
        for key in range(19):
            if key % 2:
                length, body = LENGTH_MASK, HEADER.pack(0, float(key), key, 0)
            else:
                small[key] = noise(50 + key)
                body = HEADER.pack(0, float(key), key, 0) + small[key]
                length = len(body)
            file.seek(offset)
            file.write(PART.pack(MAGIC, length) + body)
            index.write(f"{key}\t{offset}\n")
            offset += 8 + (length + 3) // 4 * 4
        file.truncate(offset)
    assert offset > 4.4 * 2**30
    return small


def test_records_beyond_4_gib_are_read_by_both(tmp_path: Path) -> None:
    rec, idx = tmp_path / "far.rec", tmp_path / "far.idx"
    small = beyond_4_gib(rec, idx)
    mxnet = original()
    theirs = mxnet.MXIndexedRecordIO(str(idx), str(rec), "r")
    with RecordReader(rec, idx) as reader, RecordReader(rec) as rebuilt:
        assert int(reader.offsets.max()) > 2**32
        assert np.array_equal(reader.offsets, rebuilt.offsets)
        located = rebuilt.locate(np.arange(len(reader)))
        assert located.label.tolist() == list(range(19))
        for key, payload in small.items():
            assert mxnet.unpack(theirs.read_idx(key))[1] == reader[key].payload == payload
            assert bytes(reader.buffer[located.begin[key] : located.end[key]]) == payload
        assert len(reader.payload_view(17)) == LENGTH_MASK - HEADER.size
    theirs.close()


@pytest.mark.real_faces
@pytest.mark.parametrize("name", ["fiw", "glint16"])
def test_real_records_as_the_original_reads_them(shared_data: Path, name: str) -> None:
    mxnet = original()
    rec, idx = shared_data / name / "train.rec", shared_data / name / "train.idx"
    theirs = mxnet.MXIndexedRecordIO(str(idx), str(rec), "r")
    with RecordReader(rec, idx) as records, RecordReader(rec) as rebuilt:
        assert list(records.keys()) == list(theirs.keys) == list(rebuilt.keys())
        assert np.array_equal(records.offsets, rebuilt.offsets)
        for key in list(records.keys())[::7]:
            header, content = mxnet.unpack(theirs.read_idx(key))
            record = records[key]
            assert (np.array_equal(record.label, header.label), record.id) == (True, header.id)
            assert record.payload == content
    theirs.close()
