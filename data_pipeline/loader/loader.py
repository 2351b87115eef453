"""Batches for training: this rank's part of an order, decoded a few ahead by DALI or by OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch

from data_pipeline.augment.settings import Augmentation
from data_pipeline.errors import DataInputError
from data_pipeline.loader.dali.pipeline import Graph, is_installed, require_dali
from data_pipeline.loader.damaged import DamagedImages
from data_pipeline.loader.read_ahead import read_ahead
from data_pipeline.loader.take import Choice, Chooser
from data_pipeline.order.batching import Batching, Last, Share
from data_pipeline.order.whole_set import Order
from data_pipeline.sets.source import ImageSource

Ints = npt.NDArray[np.int64]
DecoderName = Literal["auto", "dali", "opencv"]


@dataclass(frozen=True)
class Batch:
    """images: float32 [B, 3, H, W] RGB, (x - 127.5) / 128, on the loader's device. labels: int64 [B] there,
    -1 for images that only fill up an epoch's last batch. indices: int64 [B], the images' places in the
    set. position: the global position after this batch, the one number that a resume needs.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: Ints
    position: int


class Decoder(Protocol):
    """Turns shares of the order into pixels."""

    def batches(self, shares: Iterator[Share]) -> Iterator[tuple[Choice, torch.Tensor]]:
        """Endless, in the order of the shares; may take several shares ahead."""

    def close(self) -> None:
        """Stop and free everything."""


class TrainLoader:
    """Endless iterator of `Batch`, from `position` on.

    Global step k takes world_size * batch_size images of the order; this rank takes the rank-th part of
    them. last: what becomes of an epoch's tail, see `Batching`. Which pixels an image has depends on (seed,
    epoch, image) alone. image_size is (height, width): None as stored, the same height and a smaller width
    the centre crop, anything else a resize (`decode.fit`, as in evaluation). decoder: DALI, or OpenCV in
    processes of torch's DataLoader, or the first of them that is installed; the first alone decodes for GPUs.

    A damaged image is replaced by the next of the order; `damaged` says which were. max_damaged is the part
    of the set that may be, or, from 1 on, how many (`allowed_damaged`); None leaves that to the caller, who
    knows of the other ranks'. `handed_over` says which images, by index, OpenCV decodes although DALI
    decodes the others, and why (`images.hand_over`). Raises DataInputError if a global batch is larger than
    the set or DALI is missing; iterating raises TooManyDamaged.
    """

    def __init__(
        self,
        source: ImageSource,
        order: Order,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        position: int = 0,
        last: Last = "across",
        image_size: tuple[int, int] | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        max_damaged: float | None = 0.0,
        device: torch.device | None = None,
        num_threads: int = 1,
        decoder: DecoderName = "auto",
    ) -> None:
        too_large = last in ("across", "drop") and batch_size * world_size > source.num_images
        if batch_size < 1 or too_large:
            raise DataInputError(
                f"{source.name}: {world_size} rank(s) with batches of {batch_size} images take between 1 "
                f"and the set's {source.num_images} images a step; choose another data.batch-size"
            )
        if order.num_images != source.num_images:
            raise ValueError(f"the order is of {order.num_images} images, the set has {source.num_images}")
        self._device = device or torch.device("cpu")
        self._batching = Batching(order, batch_size, rank, world_size, last)
        self._position = position
        self.damaged = DamagedImages(source)
        self.handed_over: dict[int, str] = {}
        self._max_damaged = max_damaged
        stored, size = source.image_size, image_size or source.image_size
        keeps_pixels = source.uniform and size[0] == stored[0] and size[1] <= stored[1]
        graph = Graph(
            batch_size,
            num_threads,
            _device_id(self._device),
            stored if keeps_pixels else None,
            size,
            augmentation or Augmentation(),
        )
        chooser = Chooser(source, order, graph.augmentation, seed, self.damaged)
        self._decoder: Decoder | None = _make_decoder(decoder, graph, chooser, self._device, self.handed_over)
        self._batches = self._decoder.batches(read_ahead(source, order, self._shares()))

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._decoder is None:
            raise ValueError("the loader is closed")
        try:
            choice, images = next(self._batches)
            if self._max_damaged is not None:
                self.damaged.check(self._max_damaged)
        except Exception:
            self.close()
            raise
        labels = torch.from_numpy(choice.labels).to(self._device)
        return Batch(images, labels, choice.indices, choice.share.next_position)

    def close(self) -> None:
        """Stop decoding ahead and free the decoder."""
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _shares(self) -> Iterator[Share]:
        """This rank's part of one step after the other."""
        position = self._position
        while True:
            share = self._batching.share(position)
            position = share.next_position
            yield share


def check_decoder(name: DecoderName, device: torch.device) -> None:
    """Raise DataInputError, saying what to install, if images cannot be decoded that way here."""
    if device.type != "cpu" and name == "opencv":
        raise DataInputError("data.decoder opencv decodes for the CPU alone; take dali on a GPU")
    if name == "dali" or device.type != "cpu":
        require_dali()


def _make_decoder(
    name: DecoderName, graph: Graph, chooser: Chooser, device: torch.device, handed_over: dict[int, str]
) -> Decoder:
    check_decoder(name, device)
    if name == "opencv" or not is_installed():
        from data_pipeline.loader.opencv.decoder import OpenCVDecoder

        return OpenCVDecoder(graph, chooser)
    from data_pipeline.loader.dali.decoder import DaliDecoder

    return DaliDecoder(graph, chooser, device, handed_over)


def _device_id(device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    return torch.cuda.current_device() if device.index is None else device.index
