"""Code written against `mxnet.recordio` runs on ours: the same calls give the same answers."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import data_pipeline.records.mxnet_api.recordio as mxnet_recordio
from data_pipeline import DataInputError, RecordError, RecordReader
from tests.data_pipeline.records.original_mxnet import original
from tests.waiting import patience_s

WORD = b"\x0a\x23\xd7\xce"
BODIES = [b"first", b"", b"abcd" + WORD + b"efgh", b"x" * 1000, WORD]


def write(module: Any, folder: Path, bodies: list[bytes] = BODIES, **options: Any) -> tuple[str, str]:
    idx, rec = str(folder / f"{module.__name__}.idx"), str(folder / f"{module.__name__}.rec")
    out = module.MXIndexedRecordIO(idx, rec, "w", **options)
    for key, body in enumerate(bodies):
        out.write_idx(key * 3, body)
    out.close()
    return idx, rec


def picture(seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    noise = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    return cv2.resize(noise, (84, 112), interpolation=cv2.INTER_CUBIC)


def reading(module: Any, idx: str, rec: str) -> list[Any]:
    """Everything reading code asks of the module, in one list."""
    seen: list[Any] = []
    by_key = module.MXIndexedRecordIO(idx, rec, "r")
    seen += [list(by_key.keys), dict(by_key.idx), len(by_key.keys), type(by_key.keys), type(by_key.idx)]
    seen += [by_key.flag, by_key.is_open, by_key.writable, by_key.key_type, by_key.idx_path, by_key.pid]
    seen += [by_key.read_idx(key) for key in reversed(by_key.keys)]
    seen += [by_key.read_idx(np.int64(6)), by_key.read_idx(np.array(by_key.keys)[1])]
    seen += [by_key.read(), by_key.read()]
    by_key.seek(3)
    seen += [by_key.read(), by_key.read()]
    by_key.reset()
    seen += [by_key.read(), list(by_key.keys)]
    for missing in (1, -3, 2**70, "3", None):
        try:
            by_key.read_idx(missing)
        except KeyError as error:
            seen.append(error.args)
    copy = pickle.loads(pickle.dumps(by_key))
    seen += [copy.is_open, copy.read(), copy.read_idx(9), list(copy.keys), dict(copy.idx)]
    copy.close()
    seen += [copy.is_open, copy.pid, pickle.loads(pickle.dumps(copy)).is_open]
    by_key.close()
    by_key.close()
    in_turn = module.MXRecordIO(rec, "r")
    seen += [in_turn.read() for _ in range(len(BODIES) + 2)]
    in_turn.reset()
    seen.append(in_turn.read())
    copy = pickle.loads(pickle.dumps(in_turn))
    seen += [copy.read(), copy.read()]
    copy.close()
    in_turn.close()
    return seen


def writing(module: Any, folder: Path) -> list[Any]:
    """Everything writing code asks of the module: what it answers, and the bytes of the files."""
    folder.mkdir()
    idx, rec = folder / "a.idx", folder / "a.rec"
    seen: list[Any] = []
    out = module.MXIndexedRecordIO(str(idx), str(rec), "w")
    seen += [out.tell(), out.keys, out.idx, out.writable]
    out.write_idx(0, b"thrown away by the reset")
    out.reset()
    seen += [out.tell(), list(out.keys)]
    for key in (4, 2, np.int64(9), 4):
        out.write_idx(key, b"payload of %d" % key)
        seen += [out.tell(), list(out.keys), dict(out.idx)]
    out.write(b"without a key")
    seen.append(out.tell())
    out.close()
    seen += [rec.read_bytes(), idx.read_bytes()]
    again = module.MXIndexedRecordIO(str(idx), str(rec), "r")
    seen += [again.keys, again.idx, again.read_idx(4)]
    again.close()
    out = module.MXIndexedRecordIO(str(idx), str(rec), "w", key_type=str)
    out.write_idx("n01/a.jpg", b"one")
    out.write_idx(7, b"two")
    out.close()
    seen += [rec.read_bytes(), idx.read_bytes()]
    again = module.MXIndexedRecordIO(str(idx), str(rec), "r", key_type=str)
    seen += [again.keys, again.idx, again.read_idx("7"), again.read_idx("n01/a.jpg")]
    again.close()
    plain = module.MXRecordIO(str(rec), "w")
    for body in BODIES:
        plain.write(body)
    plain.close()
    seen.append(rec.read_bytes())
    return seen


@pytest.mark.mxnet
def test_reading_answers_as_the_original_does(tmp_path: Path) -> None:
    idx, rec = write(original(), tmp_path)
    ours, theirs = reading(mxnet_recordio, idx, rec), reading(original(), idx, rec)
    assert ours == theirs


@pytest.mark.mxnet
def test_writing_answers_as_the_original_does(tmp_path: Path) -> None:
    assert writing(mxnet_recordio, tmp_path / "ours") == writing(original(), tmp_path / "theirs")


@pytest.mark.mxnet
def test_packing_answers_as_the_original_does() -> None:
    mxnet = original()
    labels = [0, 3, 2.5, True, np.float32(7), np.int64(9), float("inf")]
    headers = [
        (flag, label, ident, id2)
        for flag in (0, 5)
        for label in labels
        for ident, id2 in ((0, 0), (2**64 - 1, 7))
    ]
    for header in headers:
        for payload in (b"", b"payload"):
            packed = mxnet_recordio.pack(mxnet_recordio.IRHeader(*header), payload)
            assert packed == mxnet_recordio.pack(header, payload) == mxnet.pack(header, payload)
            assert mxnet_recordio.unpack(packed) == mxnet.unpack(packed)
    assert mxnet_recordio.IRHeader._fields == mxnet.IRHeader._fields


@pytest.mark.mxnet
@pytest.mark.parametrize("label", [[1.0], [1, 2], (3.5, 4), np.arange(512), np.eye(2), np.bool_(True), []])
def test_the_original_unpacks_our_vector_labels(label: Any) -> None:
    packed = mxnet_recordio.pack(mxnet_recordio.IRHeader(0, label, 11, 3), b"payload")
    theirs, payload = original().unpack(packed)
    ours, same = mxnet_recordio.unpack(packed)
    flat = np.asarray(label, dtype=np.float32).ravel()
    assert (theirs.flag, theirs.id, theirs.id2, payload, same) == (flat.size, 11, 3, b"payload", b"payload")
    assert np.array_equal(theirs.label, flat if flat.size else 0.0)
    assert np.array_equal(ours.label, theirs.label)
    assert ours._replace(label=0) == theirs._replace(label=0)


@pytest.mark.mxnet
@pytest.mark.parametrize(("quality", "kind"), [(95, ".jpg"), (40, ".JPEG"), (3, ".png"), (95, ".bmp")])
def test_images_are_packed_and_unpacked_as_the_original_would(quality: int, kind: str) -> None:
    mxnet, image = original(), picture()
    packed = mxnet_recordio.pack_img((0, 5.0, 1, 0), image, quality=quality, img_fmt=kind)
    setting = {
        ".jpg": cv2.IMWRITE_JPEG_QUALITY,
        ".jpeg": cv2.IMWRITE_JPEG_QUALITY,
        ".png": cv2.IMWRITE_PNG_COMPRESSION,
    }
    parameters = [setting[kind.lower()], quality] if kind.lower() in setting else []
    assert packed == mxnet.pack((0, 5.0, 1, 0), cv2.imencode(kind, image, parameters)[1].tobytes())
    for colour in (-1, 0, 1):
        header, ours = mxnet_recordio.unpack_img(packed, colour)
        expected, theirs = mxnet.unpack_img(packed, colour)
        assert header == expected
        assert np.array_equal(ours, theirs)


def test_an_image_that_is_none() -> None:
    for payload in (b"", b"no image"):
        header, image = mxnet_recordio.unpack_img(mxnet_recordio.pack((0, 5.0, 1, 0), payload))
        assert (header.label, image) == (5.0, None)
    with pytest.raises(ValueError, match="cannot be encoded"):
        mxnet_recordio.pack_img((0, 5.0, 1, 0), picture(), img_fmt=".nonsense")
    with pytest.raises(ValueError, match="cannot be encoded"):
        mxnet_recordio.pack_img((0, 5.0, 1, 0), np.zeros((0, 0, 3), np.uint8))


@pytest.mark.parametrize("size", [0, 23, 24, 27])
def test_a_record_too_short_for_its_header_or_labels(size: int) -> None:
    with pytest.raises(DataInputError, match="too short"):
        mxnet_recordio.unpack(mxnet_recordio.pack((0, [1.0], 0, 0), b"")[:size])


def test_records_it_writes_are_read_by_our_reader(tmp_path: Path) -> None:
    bodies = [mxnet_recordio.pack((0, float(place), place * 3, 0), bytes(place)) for place in range(30)]
    idx, rec = write(mxnet_recordio, tmp_path, bodies)
    for index in (idx, None):
        with RecordReader(rec, index) as records:
            assert [(records[key].label, records[key].payload) for key in records.keys()] == [  # noqa: SIM118
                (float(place), bytes(place)) for place in range(30)
            ]


def test_misuse_is_one_clear_error(tmp_path: Path) -> None:
    idx, rec = write(mxnet_recordio, tmp_path)
    reader = mxnet_recordio.MXIndexedRecordIO(idx, rec, "r")
    calls: list[tuple[type[Exception], Callable[[], object]]] = [
        (io.UnsupportedOperation, lambda: reader.write(b"a")),
        (io.UnsupportedOperation, lambda: reader.write_idx(1, b"a")),
        (io.UnsupportedOperation, reader.tell),
        (ValueError, lambda: mxnet_recordio.MXRecordIO(rec, "a")),
        (DataInputError, lambda: mxnet_recordio.MXRecordIO(rec + "no", "r")),
        (DataInputError, lambda: mxnet_recordio.MXIndexedRecordIO(idx + "no", rec, "r")),
        (DataInputError, lambda: mxnet_recordio.MXIndexedRecordIO(idx + "no", rec, "r", key_type=str)),
        (DataInputError, lambda: mxnet_recordio.MXRecordIO(tmp_path / "no" / "a.rec", "w")),
        (ValueError, lambda: mxnet_recordio.pack((0, 0.0, -1, 0), b"")),
    ]
    for kind, call in calls:
        with pytest.raises(kind):
            call()
    reader.close()
    with pytest.raises(io.UnsupportedOperation):
        reader.read()
    writer = mxnet_recordio.MXRecordIO(rec, "w")
    for wrong in ("text", 5, None):
        with pytest.raises(TypeError):
            writer.write(wrong)  # type: ignore[arg-type]
    writer.write(bytearray(b"bytes"))
    with pytest.raises(io.UnsupportedOperation):
        pickle.dumps(writer)
    with pytest.raises(io.UnsupportedOperation):
        writer.read()
    writer.close()
    assert mxnet_recordio.MXRecordIO(rec, "r").read() == b"bytes"


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    idx, rec = write(mxnet_recordio, tmp_path)
    content = bytearray(Path(rec).read_bytes())
    reader = mxnet_recordio.MXIndexedRecordIO(idx, rec, "r")
    offset = reader.idx[3]
    content[offset] ^= 1
    Path(rec).write_bytes(content)
    for module_reader in (reader, mxnet_recordio.MXRecordIO(rec, "r")):
        module_reader.reset()
        assert module_reader.read() == BODIES[0]
        with pytest.raises(RecordError) as caught:
            module_reader.read()
        assert (caught.value.file, caught.value.offset) == (Path(rec), offset)
    os.truncate(rec, 10)
    with pytest.raises(RecordError, match="ends here now"):
        reader.read_idx(9)


def test_an_end_that_was_met_does_not_stop_reading(tmp_path: Path) -> None:
    """In the original it does, until the reader is reset."""
    idx, rec = write(mxnet_recordio, tmp_path)
    reader = mxnet_recordio.MXIndexedRecordIO(idx, rec, "r")
    while reader.read() is not None:
        pass
    assert reader.read_idx(0) == BODIES[0]


def _in_child(reader: Any, writer: Any, answers: Any) -> None:
    seen: list[object] = []
    for call in (reader.read, lambda: writer.write(b"from the child")):
        try:
            seen.append(call())
        except RuntimeError as error:
            seen.append(type(error))
    answers.put([*seen, reader.read_idx(9), reader.read()])


def test_a_reader_goes_on_in_a_forked_child(tmp_path: Path) -> None:
    idx, rec = write(mxnet_recordio, tmp_path)
    reader = mxnet_recordio.MXIndexedRecordIO(idx, rec, "r")
    writer = mxnet_recordio.MXRecordIO(tmp_path / "w.rec", "w")
    writer.write(b"from the parent")
    assert reader.read() == BODIES[0]
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    child = fork.Process(target=_in_child, args=(reader, writer, answers))
    child.start()
    assert answers.get(timeout=patience_s()) == [RuntimeError, RuntimeError, BODIES[3], BODIES[4]]
    child.join()
    assert reader.read() == BODIES[1]
    writer.close()
    assert mxnet_recordio.MXRecordIO(tmp_path / "w.rec", "r").read() == b"from the parent"


def test_a_subclass_with_attributes_of_its_own_is_pickled(tmp_path: Path) -> None:
    idx, rec = write(mxnet_recordio, tmp_path)
    reader = mxnet_recordio.MXIndexedRecordIO(idx, rec, "r")
    reader.note = "kept"  # type: ignore[attr-defined]
    random.Random(0).shuffle(reader.keys)
    copy = pickle.loads(pickle.dumps(reader))
    assert (copy.note, copy.keys) == ("kept", [0, 3, 6, 9, 12])
    assert reader.read_idx(9) == copy.read_idx(9) == BODIES[3]
    assert reader.keys != copy.keys
    assert reader.idx == copy.idx
    assert reader.read_idx(9) == BODIES[3]


def training_folder(folder: Path, count: int = 12) -> None:
    out = mxnet_recordio.MXIndexedRecordIO(folder / "train.idx", folder / "train.rec", "w")
    out.write_idx(0, mxnet_recordio.pack((0, [count + 1, count + 4], 0, 0), b""))
    for key in range(1, count + 1):
        out.write_idx(key, mxnet_recordio.pack_img((0, float(key % 3), key, 0), picture(key), img_fmt=".png"))
    out.close()


# Reads a training folder the way torch code for mxnet's records does: header record first, then images.
USER_CODE = """
import numbers, sys
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
{imports}

class Faces(Dataset):
    def __init__(self, folder):
        self.records = recordio.MXIndexedRecordIO(folder + "/train.idx", folder + "/train.rec", "r")
        header, _ = recordio.unpack(self.records.read_idx(0))
        if header.flag > 0:
            self.wanted = np.arange(1, int(header.label[0]))
        else:
            self.wanted = np.array(list(self.records.keys))

    def __len__(self):
        return len(self.wanted)

    def __getitem__(self, place):
        header, payload = recordio.unpack(self.records.read_idx(self.wanted[place]))
        label = header.label if isinstance(header.label, numbers.Number) else header.label[0]
        image = {decode}
        return torch.from_numpy(image.copy()), torch.tensor(label, dtype=torch.long)

if __name__ == "__main__":
    for context in (None, "{workers}"):
        loader = DataLoader(Faces(sys.argv[1]), batch_size=5, num_workers=1 if context else 0,
                            multiprocessing_context=context)
        batches = list(loader)
        print(context, [label for _, labels in batches for label in labels.tolist()],
              sum(int(images.sum()) for images, _ in batches))
"""


USER_LINES = {
    "one line changed": {
        "imports": "import cv2\nfrom data_pipeline import mxnet_recordio as recordio",
        "workers": "fork",
        "decode": "cv2.imdecode(np.frombuffer(payload, np.uint8), 1)[:, :, ::-1]",
    },
    "left as it is": {
        "imports": "import cv2, types\nfrom data_pipeline import mxnet_recordio\n"
        "sys.modules['mxnet'] = types.SimpleNamespace(recordio=mxnet_recordio)\n"
        "sys.modules['mxnet.recordio'] = mxnet_recordio\n"
        "import mxnet as mx, mxnet.recordio\nfrom mxnet import recordio\nassert mx.recordio is recordio",
        "workers": "spawn",
        "decode": "cv2.imdecode(np.frombuffer(payload, np.uint8), 1)[:, :, ::-1]",
    },
}


@pytest.mark.parametrize("how", list(USER_LINES))
def test_dataset_code_for_mxnet_runs(tmp_path: Path, how: str) -> None:
    training_folder(tmp_path)
    code = tmp_path / "user.py"
    code.write_text(USER_CODE.format(**USER_LINES[how]))
    output = run(code, str(tmp_path))
    labels = [key % 3 for key in range(1, 13)]
    total = sum(int(picture(key).sum()) for key in range(1, 13))
    assert output.splitlines() == [
        f"{context} {labels} {total}" for context in (None, USER_LINES[how]["workers"])
    ]


def run(*command: object) -> str:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=patience_s(120),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
