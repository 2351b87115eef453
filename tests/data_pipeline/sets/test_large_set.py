"""A set too large to be read through at every start, in the layout of MS1M, with records of a few bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from data_pipeline import FaceDataset
from data_pipeline.sets.table_store import table_directory

PER_CLASS = 20
MAGIC = 0xCED7230A
Words = npt.NDArray[np.uint32]


def records(keys: npt.NDArray[np.int64], label: object, vector: object = None) -> Words:
    """Records [n, words]: mxnet's header, the vector of two labels or four bytes of payload."""
    result = np.zeros((len(keys), 9 if vector is None else 10), dtype=np.uint32)
    result[:, 0], result[:, 1] = MAGIC, 4 * (result.shape[1] - 2)
    result[:, 2] = 0 if vector is None else 2
    result[:, 3] = np.broadcast_to(np.asarray(label, dtype=np.float32), len(keys)).view(np.uint32)
    result[:, 4] = keys
    result[:, 8:] = 0xD9FFD8FF if vector is None else np.asarray(vector, dtype=np.float32).view(np.uint32)
    return result


def write_set(folder: Path, images: int) -> None:
    classes = images // PER_CLASS
    folder.mkdir()
    offset = 0
    with (folder / "train.rec").open("wb") as rec, (folder / "train.idx").open("w") as idx:

        def put(keys: npt.NDArray[np.int64], made: Words) -> None:
            nonlocal offset
            rec.write(made.tobytes())
            offsets = offset + np.arange(len(keys)) * 4 * made.shape[1]
            idx.write(
                "".join(f"{key}\t{at}\n" for key, at in zip(keys.tolist(), offsets.tolist(), strict=True))
            )
            offset += made.nbytes

        put(np.array([0]), records(np.array([0]), 0, [[images + 1, images + classes + 1]]))
        for start in range(1, images + 1, 1 << 20):
            keys = np.arange(start, min(start + (1 << 20), images + 1))
            put(keys, records(keys, (keys - 1) // PER_CLASS))
        for start in range(0, classes, 1 << 20):
            each = np.arange(start, min(start + (1 << 20), classes))
            first = 1 + PER_CLASS * each
            put(
                images + 1 + each, records(images + 1 + each, 0, np.stack([first, first + PER_CLASS], axis=1))
            )
    (folder / "property").write_text(f"{classes},112,112")


@pytest.mark.parametrize("images", [200_000, pytest.param(40_000_000, marks=pytest.mark.slow)])
def test_a_large_set_is_read_through_once(
    tmp_path: Path, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40M images, beyond what float32 ranges can say, took 14 s at first, then a millisecond."""
    monkeypatch.setenv("COSFACE_CACHE", str(tmp_path / "cache"))
    write_set(tmp_path / "set", images)
    FaceDataset.open(tmp_path / "set").close()
    (table,) = table_directory().glob("*.table")
    assert table.stat().st_size <= 16 * images + 4096
    monkeypatch.setattr("data_pipeline.sets.record_folder.read_record_table", None)  # not a second time
    with FaceDataset.open(tmp_path / "set") as dataset:
        assert (dataset.num_images, dataset.num_classes) == (images, images // PER_CLASS)
        some = np.random.default_rng(0).integers(0, images, 1000)
        assert np.array_equal(dataset.labels_of(some), some // PER_CLASS)
        assert [dataset.key(int(index)) for index in some] == (some + 1).tolist()
        assert {bytes(view) for view in dataset.payloads(some)} == {b"\xff\xd8\xff\xd9"}
        assert dataset.class_counts().tolist() == [PER_CLASS] * (images // PER_CLASS)
