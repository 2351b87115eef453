"""One image brought to the network's size: by training with DALI and without, evaluation and packing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from data_pipeline import GlobalOrder, TrainLoader, open_source
from data_pipeline.augment.settings import Augmentation
from data_pipeline.images.decode import decode_image, fit
from data_pipeline.images.prepare import Preparation, prepare_file
from data_pipeline.loader.loader import DecoderName
from trainer.evaluation.embed import embed_images

# Shrunk a little and much, both ways and one, enlarged, too wide by an even and an odd number, and as it is.
SIZES = [(250, 250), (150, 150), (224, 200), (337, 151), (113, 112), (64, 64), (100, 130), (112, 96)]
WIDER = [(112, 150), (112, 113), (112, 112)]


def picture(seed: int, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Noise: there filters differ most."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faces") / "set"
    for place, size in enumerate(SIZES + WIDER):
        person = path / f"{place:02}"
        person.mkdir(parents=True)
        cv2.imwrite(str(person / "1.png"), picture(place, size))
    return path


def evaluated(folder: Path, size: tuple[int, int]) -> torch.Tensor:
    """What evaluation shows the network: grey levels [n, 3, H, W]."""
    files = [path.read_bytes() for path in sorted(folder.rglob("*.png"))]
    shown = embed_images(lambda images: images.flatten(1), files, size, torch.device("cpu"))
    return shown[:, : 3 * size[0] * size[1]].reshape(-1, 3, *size) * 128 + 127.5


@pytest.mark.parametrize("size", [(112, 112), (112, 96), (56, 60), (160, 160)])
@pytest.mark.parametrize("decoder", [pytest.param("dali", marks=pytest.mark.dali), "opencv"])
def test_training_and_evaluation_show_the_network_the_same(
    folder: Path, decoder: DecoderName, size: tuple[int, int]
) -> None:
    expected = evaluated(folder, size)
    source = open_source([folder])
    assert not source.uniform
    order = GlobalOrder(source.num_images, 0)
    with TrainLoader(
        source, order, batch_size=len(expected), image_size=size,
        augmentation=Augmentation(flip=False), decoder=decoder,
    ) as batches:  # fmt: skip
        batch = next(batches)
    shown = batch.images * 128 + 127.5
    difference = (shown - expected[torch.from_numpy(batch.indices)]).abs()
    assert float(difference.max()) <= 1
    assert float(difference.mean()) < 0.05


@pytest.mark.dali
@pytest.mark.parametrize("size", [(112, 112), (64, 80), (200, 112)])
def test_a_set_of_one_size_too(tmp_path: Path, size: tuple[int, int]) -> None:
    for place in range(6):
        (tmp_path / "set" / f"{place}").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "set" / f"{place}" / "1.png"), picture(place, (200, 180)))
    expected = evaluated(tmp_path / "set", size)
    source = open_source([tmp_path / "set"])
    assert source.uniform
    order = GlobalOrder(6, 0)
    with TrainLoader(
        source, order, batch_size=6, image_size=size, augmentation=Augmentation(flip=False)
    ) as batches:
        batch = next(batches)
    shown = batch.images * 128 + 127.5
    assert float((shown - expected[torch.from_numpy(batch.indices)]).abs().max()) <= 1


@pytest.mark.parametrize("size", [(112, 112), (56, 60)])
def test_packing_too(folder: Path, size: tuple[int, int]) -> None:
    files = sorted(folder.rglob("*.png"))
    for file, expected in zip(files, evaluated(folder, size), strict=True):
        packed = prepare_file(Preparation(size=size, quality=100, keep=()), file)
        assert packed.payload is not None
        image = decode_image(packed.payload)
        assert image is not None
        # A JPEG of noise, whose colours have half the resolution; the brightness is what can be compared.
        greys = [cv2.cvtColor(each, cv2.COLOR_RGB2GRAY).astype(int) for each in (image, rounded(expected))]
        assert np.abs(greys[0] - greys[1]).mean() < 3


def rounded(planes: torch.Tensor) -> npt.NDArray[np.uint8]:
    image: npt.NDArray[np.uint8] = planes.round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return image


def test_the_filter_is_a_triangle_as_wide_as_the_reduction() -> None:
    """By hand, rows of 6 pixels to 3: outputs at 0.5, 2.5, 4.5 weigh inputs by (1 - distance / 2) / 2."""
    row = np.array([0, 0, 240, 0, 0, 0], dtype=np.uint8)
    image = np.broadcast_to(row[None, :, None], (2, 6, 3))
    # The bright pixel is 1.5, 0.5 and 2.5 away.
    assert fit(image, (1, 3))[0, :, 0].tolist() == [30, 90, 0]
