from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from data_pipeline import DataInputError, FaceDataset, write_dataset
from data_pipeline.augment.on_cpu import change_image
from data_pipeline.augment.pixel_settings import warp_matrices
from data_pipeline.augment.settings import Augmentation, Parameters, draw
from data_pipeline.images.decode import decode_images, normalise
from data_pipeline.loader.loader import Batch, TrainLoader
from data_pipeline.loader.opencv.images import opencv_batch
from data_pipeline.order.whole_set import GlobalOrder
from tests.waiting import patience_s

pytestmark = pytest.mark.dali

SIZE = (112, 112)
NONE = Augmentation(flip=False)
ALL = Augmentation(
    shift=4, rotation=10, scale=0.1, brightness=0.2, contrast=0.3, saturation=0.4, grey=0.1, erase=0.5,
    blur=0.25, low_resolution=0.3,
)  # fmt: skip


def picture(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A smooth coloured picture with a few edges, as photographs have."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (9, 9, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    cv2.circle(image, (int(random.integers(size[1])), size[0] // 2), 20, (200, 30, 90), -1, cv2.LINE_AA)
    return np.asarray(image, dtype=np.uint8)


def jpeg(seed: int, size: tuple[int, int] = SIZE) -> bytes:
    return cv2.imencode(".jpg", picture(seed, size))[1].tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faces") / "set"
    write_dataset(path, [(place % 7, jpeg(place)) for place in range(50)], 7, SIZE)
    return path


@pytest.fixture(scope="module")
def dataset(folder: Path) -> FaceDataset:
    return FaceDataset.open(folder)


def loader(dataset: FaceDataset, batch_size: int, **settings: Any) -> TrainLoader:
    return TrainLoader(dataset, GlobalOrder(dataset.num_images, 1), batch_size=batch_size, seed=9, **settings)


def read(batches: TrainLoader, steps: int) -> None:
    for _ in range(steps):
        next(batches)


def reference(dataset: FaceDataset, batch: Batch, size: tuple[int, int] | None = None) -> torch.Tensor:
    return normalise(decode_images([dataset.payload(int(index)) for index in batch.indices], size))


@pytest.mark.parametrize("size", [None, (112, 112), (112, 96)])
def test_pixels_are_those_of_opencv(dataset: FaceDataset, size: tuple[int, int] | None) -> None:
    with loader(dataset, 16, augmentation=NONE, image_size=size) as batches:
        for _ in range(4):
            batch = next(batches)
            expected = reference(dataset, batch, size)
            assert batch.images.dtype == torch.float32
            assert batch.images.shape == (16, 3, *(size or SIZE))
            assert batch.labels.dtype == torch.int64
            assert batch.labels.tolist() == dataset.labels[batch.indices].tolist()
            # One grey level is 1/128 after normalisation.
            assert float((batch.images - expected).abs().max()) <= 1 / 128


@pytest.mark.parametrize("size", [(56, 56), (64, 48), (128, 128)])
def test_resized_images_are_nearly_those_of_opencv(dataset: FaceDataset, size: tuple[int, int]) -> None:
    with loader(dataset, 16, augmentation=NONE, image_size=size) as batches:
        batch = next(batches)
        assert batch.images.shape == (16, 3, *size)
        assert float((batch.images - reference(dataset, batch, size)).abs().mean()) * 128 < 2


def test_the_mirror_is_exact_and_as_drawn(dataset: FaceDataset) -> None:
    with loader(dataset, 32) as batches:
        for step in range(3):
            batch = next(batches)
            epochs = GlobalOrder(dataset.num_images, 1).slice(step * 32, 32)[0]
            mirror = torch.from_numpy(draw(Augmentation(), 9, epochs, batch.indices).mirror)
            expected = reference(dataset, batch)
            expected[mirror] = expected[mirror].flip(-1)
            assert 0 < int(mirror.sum()) < 32
            assert float((batch.images - expected).abs().max()) <= 1 / 128


@pytest.mark.parametrize(("world_size", "threads"), [(1, 2), (2, 1), (3, 2), (4, 1)])
def test_ranks_read_one_sequence_of_pixels(dataset: FaceDataset, world_size: int, threads: int) -> None:
    steps, global_batch = 12, 12  # 144 images: almost three epochs of 50, with batches across their ends
    with loader(dataset, global_batch, augmentation=ALL) as batches:
        whole = [next(batches) for _ in range(steps)]
    ranks = [
        loader(
            dataset, global_batch // world_size, rank=rank, world_size=world_size, augmentation=ALL,
            num_threads=threads,
        )
        for rank in range(world_size)
    ]  # fmt: skip
    for step, expected in enumerate(whole):
        parts = [next(rank) for rank in ranks]
        assert torch.equal(torch.cat([part.images for part in parts]), expected.images)
        assert torch.equal(torch.cat([part.labels for part in parts]), expected.labels)
        assert {part.position for part in parts} == {expected.position} == {(step + 1) * global_batch}
    for rank in ranks:
        rank.close()


def test_goes_on_from_a_position_with_another_batch(dataset: FaceDataset) -> None:
    with loader(dataset, 6, augmentation=ALL) as batches:
        images = torch.cat([next(batches).images for _ in range(12)])
    with loader(dataset, 11, augmentation=ALL, position=41) as batches:
        batch = next(batches)
    assert batch.position == 52
    assert torch.equal(batch.images, images[41:52])


def test_stopped_anywhere_any_number_of_ranks_goes_on_with_the_same_keys_and_pixels(
    dataset: FaceDataset,
) -> None:
    with loader(dataset, 12, augmentation=ALL) as batches:
        whole = [next(batches) for _ in range(15)]
    keys = np.concatenate([dataset.keys[batch.indices] for batch in whole])
    pixels = torch.cat([batch.images for batch in whole])
    random = np.random.default_rng(5)
    for ranks in (1, 2, 3):
        for _ in range(3):
            stop, each = int(random.integers(1, 120)), int(random.integers(1, 9))
            going_on = [
                loader(dataset, each, rank=rank, world_size=ranks, position=stop, augmentation=ALL)
                for rank in range(ranks)
            ]
            for step in range(2):
                parts = [next(rank) for rank in going_on]
                here = slice(stop + step * ranks * each, stop + (step + 1) * ranks * each)
                assert np.array_equal(
                    np.concatenate([dataset.keys[part.indices] for part in parts]), keys[here]
                )
                assert torch.equal(torch.cat([part.images for part in parts]), pixels[here])
            for rank in going_on:
                rank.close()


@pytest.mark.parametrize("last", ["drop", "pad", "short"])
def test_an_epochs_last_batch(dataset: FaceDataset, last: str) -> None:
    order = GlobalOrder(dataset.num_images, 1)
    with loader(dataset, 12, last=last) as batches:
        read = [next(batches) for _ in range(9)]  # an epoch of 50 is four batches and two images
    fifth = read[4]
    if last == "drop":
        assert np.array_equal(fifth.indices, order.slice(50, 12)[1])
        assert [batch.position for batch in read[3:5]] == [50, 62]
    else:
        assert fifth.position == 50
        assert np.array_equal(fifth.indices[:2], order.slice(48, 2)[1])
        assert fifth.labels.tolist() == [
            *dataset.labels[fifth.indices[:2]],
            *[-1] * (10 if last == "pad" else 0),
        ]
        assert len(fifth.images) == (12 if last == "pad" else 2)
    counted = [
        int(i) for batch in read for i, label in zip(batch.indices, batch.labels, strict=True) if label >= 0
    ]
    assert len(set(counted[:48])) == 48
    if last != "drop":
        assert sorted(counted[:50]) == list(range(50))


def test_memory_is_reused_only_when_nobody_holds_it(dataset: FaceDataset) -> None:
    with loader(dataset, 8) as batches:
        held: list[Any] = []
        expected = []
        for step in range(8):
            batch = next(batches)
            # A tensor, a view of it, its array, and what autograd holds.
            weight = torch.ones(1, requires_grad=True)
            held.append([batch, batch.images[2:, 1], batch.images.numpy(), batch.images * weight][step % 4])
            expected.append(batch.images.clone())
        places = set()
        del batch
        for _ in range(8):
            places.add(next(batches).images.data_ptr())
        assert len(places) <= 3
        for step, (kept, images) in enumerate(zip(held, expected, strict=True)):
            match step % 4:
                case 0:
                    assert torch.equal(kept.images, images)
                case 1:
                    assert torch.equal(kept, images[2:, 1])
                case 2:
                    assert np.array_equal(kept, images.numpy())
                case 3:
                    (gradient,) = torch.autograd.grad(kept.sum(), kept.grad_fn.next_functions[1][0].variable)
                    assert gradient.item() == pytest.approx(float(images.sum()), rel=1e-3)


def test_several_loaders_at_once(dataset: FaceDataset) -> None:
    with loader(dataset, 8) as one, loader(dataset, 8) as other:
        for _ in range(5):
            assert torch.equal(next(one).images, next(other).images)
    with pytest.raises(ValueError, match="the loader is closed"):
        next(one)


def test_closing_in_the_middle_of_decoding_never_hangs(dataset: FaceDataset) -> None:
    for _ in range(25):
        batches = loader(dataset, 50, augmentation=ALL)
        next(batches)
        batches.close()


@pytest.mark.parametrize("size", [None, (112, 96), (64, 64)])
@pytest.mark.parametrize("threads", [1, 3])
def test_augmented_pixels_are_those_of_opencv_alone(
    dataset: FaceDataset, size: tuple[int, int] | None, threads: int
) -> None:
    order = GlobalOrder(dataset.num_images, 1)
    with loader(dataset, 16, augmentation=ALL, image_size=size, num_threads=threads) as batches:
        for step in range(4):
            batch = next(batches)
            epochs, images = order.slice(16 * step, 16)
            stored = None if size == (64, 64) else SIZE
            expected, damaged = opencv_batch(
                dataset.payloads(images), draw(ALL, 9, epochs, images), ALL, stored=stored, size=size or SIZE
            )
            assert not damaged
            difference = (batch.images - normalise(expected)).abs() * 128
            if stored:
                assert float(difference.max()) <= 1
            else:
                # DALI and its twin round a resize each in its own way, and colour multiplies that.
                assert float((difference > 1).float().mean()) < 0.005


@pytest.mark.parametrize("augmentation", [NONE, ALL], ids=["none", "all"])
def test_the_decoders_agree(dataset: FaceDataset, augmentation: Augmentation) -> None:
    with (
        loader(dataset, 12, augmentation=augmentation) as dali,
        loader(dataset, 12, augmentation=augmentation, decoder="opencv", num_threads=2) as opencv,
    ):
        for _ in range(9):  # more than two epochs, two worker processes by turns
            one, other = next(dali), next(opencv)
            assert np.array_equal(one.indices, other.indices)
            assert torch.equal(one.labels, other.labels)
            assert one.position == other.position
            assert float((one.images - other.images).abs().max()) <= 1 / 128


def only(**changes: Any) -> Parameters:
    one = draw(NONE, 0, np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))
    return replace(one, **{name: np.array([value], dtype=np.float32) for name, value in changes.items()})


def test_images_move_as_stated() -> None:
    image = picture(3)
    shifted = change_image(image, {"matrix": warp_matrices(only(shift=[5, -3]), SIZE)[0]})
    assert np.array_equal(shifted[:-3, 5:], image[3:, :-5])
    assert not shifted[:, :5].any()
    turned = change_image(image, {"matrix": warp_matrices(only(rotation=90), SIZE)[0]})
    assert np.array_equal(turned, np.rot90(image))
    half = change_image(image, {"matrix": warp_matrices(only(scale=0.5), SIZE)[0]})
    assert not half[:27].any()
    assert np.abs(half[28:84, 28:84].astype(int) - cv2.resize(image, (56, 56))).mean() < 2


def test_nothing_is_written_to_standard_error(
    dataset: FaceDataset, capfd: pytest.CaptureFixture[str]
) -> None:
    with loader(dataset, 10, augmentation=ALL) as batches:
        next(batches)
    assert capfd.readouterr() == ("", "")


def test_wrong_batches_are_refused(dataset: FaceDataset) -> None:
    for batch_size, world_size in ((51, 1), (26, 2), (0, 1)):
        with pytest.raises(DataInputError, match=r"the set's 50 images .* data\.batch-size"):
            loader(dataset, batch_size, world_size=world_size)
    loader(dataset, 25, world_size=2).close()
    with loader(dataset, 40, world_size=2, last="short") as batches:
        assert [len(next(batches).labels) for _ in range(2)] == [25, 25]
    with loader(dataset, 40, rank=1, world_size=2, last="pad") as batches:
        assert (next(batches).labels >= 0).sum() == 10


def test_without_dali_the_message_says_how_to_install_it(
    dataset: FaceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataInputError, match="pip install nvidia-dali"):
        loader(dataset, 4, decoder="dali")


@pytest.mark.parametrize("ending", ["pass", "raise SystemExit(3)"])
def test_a_process_ends_while_batches_are_decoded(folder: Path, ending: str) -> None:
    program = f"""
from pathlib import Path
from data_pipeline import FaceDataset
from data_pipeline.augment.settings import Augmentation
from data_pipeline.loader.loader import TrainLoader
from data_pipeline.loader.opencv.images import opencv_batch
from data_pipeline.order.whole_set import GlobalOrder
dataset = FaceDataset.open(Path({str(folder)!r}))
batches = TrainLoader(dataset, GlobalOrder(50, 1), batch_size=50,
                      augmentation=Augmentation(rotation=9, blur=1.0, low_resolution=1.0))
next(batches)
{ending}
"""
    done = subprocess.run(
        [sys.executable, "-c", program], timeout=patience_s(), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (3 if "3" in ending else 0, "", "")


@pytest.mark.real_faces
def test_real_faces(shared_data: Path) -> None:
    with FaceDataset.open(shared_data / "fiw") as dataset, loader(dataset, 128, augmentation=NONE) as batches:
        for _ in range(3):
            batch = next(batches)
            assert float((batch.images - reference(dataset, batch)).abs().max()) <= 1 / 128
