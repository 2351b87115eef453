from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_pipeline import DataInputError, RecordError, RecordReader, RecordWriter

MAGIC = struct.pack("<I", 0xCED7230A)
# Sizes around the padding, and the magic word at aligned, unaligned, first, last and repeated places.
PAYLOADS = [
    *(bytes(range(1, size + 1)) for size in range(10)),
    MAGIC,
    MAGIC * 3,
    b"abcd" + MAGIC + b"efg",
    b"a" + MAGIC,
    b"ab" + MAGIC + b"xy" + MAGIC + MAGIC + b"z",
    MAGIC[:3] + MAGIC + b"q",
    b"x" * 100_001,
]


def write(folder: Path, payloads: list[bytes], label: Any = None) -> tuple[Path, Path]:
    rec, idx = folder / "a.rec", folder / "a.idx"
    with RecordWriter(rec, idx) as out:
        for key, payload in enumerate(payloads):
            out.write(key, label=float(key) if label is None else label, id=key, payload=payload)
    return rec, idx


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rec, idx = write(tmp_path, PAYLOADS)
    with RecordReader(rec, idx) as records:
        assert len(records) == len(PAYLOADS)
        assert list(records.keys()) == list(range(len(PAYLOADS)))
        for key, payload in enumerate(PAYLOADS):
            record = records[key]
            assert (record.label, record.id, record.payload) == (float(key), key, payload)
            assert bytes(records.payload_view(key)) == payload
        located = records.locate(np.arange(len(PAYLOADS)))
        assert located.label.tolist() == [float(key) for key in range(len(PAYLOADS))]
        for payload, begin, end in zip(PAYLOADS, located.begin, located.end, strict=True):
            assert begin == -1 or bytes(records.buffer[begin:end]) == payload
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.idx", "a.rec"]


def test_vector_label(tmp_path: Path) -> None:
    rec, idx = write(tmp_path, [b"abc", b""], label=[1.5, -2.0, 3.0])
    with RecordReader(rec, idx) as records:
        record = records[1]
        assert isinstance(record.label, np.ndarray)
        assert record.label.dtype == np.float32
        assert record.label.tolist() == [1.5, -2.0, 3.0]
        assert records[0].payload == b"abc"
        assert records.vectors(np.array([0, 1]), 2).tolist() == [[1.5, -2.0]] * 2
        assert records.locate(np.array([0])).label.tolist() == [1.5]


def test_keys_in_any_order(tmp_path: Path) -> None:
    rec, idx = tmp_path / "a.rec", tmp_path / "a.idx"
    with RecordWriter(rec, idx) as out:
        for key in (17, 3, 99, -4, 8):
            out.write(key, label=1.0, id=key & 0xFF, payload=str(key).encode())
    with RecordReader(rec, idx) as records:
        assert list(records.keys()) == [17, 3, 99, -4, 8]
        assert [records[key].payload for key in (99, 17, -4)] == [b"99", b"17", b"-4"]
        assert 3 in records
        assert 4 not in records
        with pytest.raises(KeyError):
            records[100]


def test_a_missing_index_is_rebuilt(tmp_path: Path) -> None:
    rec, idx = write(tmp_path, PAYLOADS)
    idx.unlink()
    for given_index in (idx, None):
        with RecordReader(rec, given_index) as records:
            assert [records[key].payload for key in list(records.keys())] == PAYLOADS
    assert not idx.exists()


def test_a_rebuilt_index_uses_ids_that_differ(tmp_path: Path) -> None:
    rec, idx = tmp_path / "a.rec", tmp_path / "a.idx"
    for ids, keys in (([7, 5, 6], [7, 5, 6]), ([0, 0, 0], [0, 1, 2])):
        with RecordWriter(rec, idx) as out:
            for ident in ids:
                out.write(ident, label=0.0, id=ident, payload=b"x" * ident)
        with RecordReader(rec) as records:
            assert list(records.keys()) == keys


def test_an_empty_file(tmp_path: Path) -> None:
    rec, idx = write(tmp_path, [])
    for index in (idx, None):
        with RecordReader(rec, index) as records:
            assert len(records) == 0
            assert 0 not in records


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(OverflowError, match="too large"),
        RecordWriter(tmp_path / "a.rec", tmp_path / "a.idx") as out,
    ):
        out.write(0, label=1e300, id=0, payload=b"abc")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataInputError, match="cannot be written"):
        RecordWriter(tmp_path / "none" / "a.rec", tmp_path / "none" / "a.idx")


def test_views_outlive_the_reader(tmp_path: Path) -> None:
    rec, idx = write(tmp_path, [b"face"])
    with RecordReader(rec, idx) as records:
        view = records.payload_view(0)
    assert bytes(view) == b"face"


@pytest.mark.parametrize("ident", [-1, 2**64])
def test_an_id_that_is_none_is_refused(tmp_path: Path, ident: int) -> None:
    with (
        pytest.raises(ValueError, match="between 0 and"),
        RecordWriter(tmp_path / "a.rec", tmp_path / "a.idx") as out,
    ):
        out.write(0, label=0.0, id=ident, payload=b"abc")


def test_a_rebuilt_index_knows_ids_of_records_in_parts(tmp_path: Path) -> None:
    rec, idx = tmp_path / "a.rec", tmp_path / "a.idx"
    with RecordWriter(rec, idx) as out:
        for ident in (7, 5, 6):
            out.write(ident, label=0.0, id=ident, payload=b"abcd" + MAGIC * (ident % 2) + b"efgh")
    with RecordReader(rec) as records:
        assert list(records.keys()) == [7, 5, 6]


def test_vectors_of_records_in_parts(tmp_path: Path) -> None:
    magic_label = struct.unpack("<f", MAGIC)[0]
    rec, idx = write(tmp_path, [b"abc", b""], label=[1.5, magic_label, 3.0])
    with RecordReader(rec, idx) as records:
        positions = np.array([1, 0])
        assert records.locate(positions).begin.tolist() == [-1, -1]
        assert records.vectors(positions, 3).tolist() == [[1.5, magic_label, 3.0]] * 2


def test_a_file_cut_while_it_is_open_is_a_record_error(tmp_path: Path) -> None:
    """Reading a map beyond the file's end would end the process."""
    rec, idx = write(tmp_path, [b"a" * 5000] * 20)
    with RecordReader(rec, idx) as records:
        _ = records[19]
        os.truncate(rec, 9000)
        every = np.arange(20)
        for look in (lambda: records[19], lambda: records.locate(every), lambda: records.payload_view(3)):
            with pytest.raises(RecordError, match="ends here now") as caught:
                look()
            assert (caught.value.file, caught.value.offset) == (rec, 9000)


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.rec")
    with pytest.raises(DataInputError, match="no ordinary file"):
        RecordReader(tmp_path / "a.rec")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataInputError, match=r"no\.rec: cannot be opened"):
        RecordReader(tmp_path / "no.rec", tmp_path / "no.idx")


def test_every_truncation_is_found_on_opening(tmp_path: Path) -> None:
    rec, idx = write(tmp_path, [b"abc", b"x" * 50, b"abcd" + MAGIC + b"efgh"])
    whole = rec.read_bytes()
    with RecordReader(rec, idx) as records:
        starts = records.offsets.tolist()
    for size in range(len(whole)):
        rec.write_bytes(whole[:size])
        with pytest.raises(RecordError) as caught:
            RecordReader(rec, idx)
        assert caught.value.file == rec
        assert str(idx) in str(caught.value)
        if size in (0, *starts):
            continue
        with pytest.raises(RecordError) as caught:
            RecordReader(rec)
        assert caught.value.offset <= size


def test_a_damaged_record_is_named_when_read(tmp_path: Path) -> None:
    rec, idx = write(tmp_path, [b"a" * 40, b"b" * 40, b"c" * 40])
    whole = rec.read_bytes()
    with RecordReader(rec, idx) as records:
        offset = int(records.offsets[1])
    # Word by word: the magic, a length beyond the file, a middle part, a record shorter than its header,
    # more labels than there are bytes.
    cases = [(0, 1), (1, 0x1FFFFFFF), (1, 2 << 29 | 64), (1, 8), (2, 0xFFFFFFFF), (2, 0x0FFFFFFF)]
    for word, value in cases:
        damaged = bytearray(whole)
        struct.pack_into("<I", damaged, offset + 4 * word, value)
        rec.write_bytes(damaged)
        with RecordReader(rec, idx) as records:
            assert records[0].payload == b"a" * 40
            assert records[2].payload == b"c" * 40
            with pytest.raises(RecordError) as caught:
                records[1]
            assert (caught.value.file, caught.value.offset) == (rec, offset)
            with pytest.raises(RecordError) as caught:
                records.locate(np.arange(3))
            assert (caught.value.file, caught.value.offset) == (rec, offset)


def test_sparse_file_beyond_4_gib(tmp_path: Path) -> None:
    rec, idx = write(tmp_path, [b"first", b"last"])
    with RecordReader(rec, idx) as records:
        cut = int(records.offsets[1])
    far = (5 << 30) + 4
    content = rec.read_bytes()
    with rec.open("wb") as file:
        file.write(content[:cut])
        file.seek(far)
        file.write(content[cut:])
    idx.write_text(f"0\t0\n1\t{far}\n")
    with RecordReader(rec, idx) as records:
        assert records[1].payload == b"last"
        located = records.locate(np.array([1]))
        assert bytes(records.buffer[located.begin[0] : located.end[0]]) == b"last"
