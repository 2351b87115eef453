"""Batches for training: this rank's part of the global order, decoded by DALI, always a few ahead."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np
import numpy.typing as npt
import torch

from data_pipeline.augment import Augmentation, draw
from data_pipeline.dali_pipeline import Graph, Payloads, build, copy_output, decodes, feed, require_dali
from data_pipeline.dataset import FaceDataset
from data_pipeline.decode import decode_image
from data_pipeline.errors import DataInputError, RecordError
from data_pipeline.order import GlobalOrder

Ints = npt.NDArray[np.int64]
_PREFETCH = 2
_REUSED = 3


@dataclass(frozen=True)
class Batch:
    """images: float32 [B, 3, H, W] RGB, (x - 127.5) / 128, on the loader's device. labels: int64 [B] there.
    indices: int64 [B], the images' places in the dataset. position: the global position after this batch,
    the one number that a resume needs.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: Ints
    position: int


@dataclass(frozen=True)
class _Pending:
    """A batch that is being decoded; the payloads must live until it is out."""

    payloads: Payloads
    indices: Ints
    position: int


class TrainLoader:
    """Endless iterator of `Batch`, from `position` on.

    Global step k takes world_size * batch_size images of the order; this rank takes the rank-th part of
    them. Which pixels an image has depends on (seed, epoch, image) alone. image_size is (height, width):
    None as stored, the same height and a smaller width the centre crop, anything else a resize.

    Raises DataInputError if a global batch is larger than the set or DALI is missing; iterating raises
    RecordError (file, offset, reason with key and class) for a damaged image.
    """

    def __init__(
        self,
        dataset: FaceDataset,
        order: GlobalOrder,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        position: int = 0,
        image_size: tuple[int, int] | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        device: torch.device | None = None,
        num_threads: int = 1,
    ) -> None:
        if batch_size < 1 or batch_size * world_size > dataset.num_images:
            raise DataInputError(
                f"{dataset.folder}: {world_size} rank(s) with batches of {batch_size} images take between 1 "
                f"and the set's {dataset.num_images} images a step; choose another data.batch-size"
            )
        if order.num_images != dataset.num_images:
            raise ValueError(f"the order is of {order.num_images} images, the set has {dataset.num_images}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be between 0 and {world_size - 1}, got {rank}")
        require_dali()
        self._dataset, self._order = dataset, order
        self._batch_size, self._rank, self._world_size = batch_size, rank, world_size
        self._next_position = position
        self._augmentation, self._seed = augmentation or Augmentation(), seed
        self._device = device or torch.device("cpu")
        stored, size = dataset.image_size, image_size or dataset.image_size
        keeps_pixels = size[0] == stored[0] and size[1] <= stored[1]
        self._graph = Graph(
            batch_size,
            num_threads,
            _device_id(self._device),
            stored if keeps_pixels else None,
            size,
            self._augmentation,
            opencv=self._device.type == "cpu",
        )
        self._pipeline: Any = build(self._graph, _PREFETCH)
        self._pending: deque[_Pending] = deque()
        self._failure: Exception | None = None
        self._memory = _Memory((batch_size, 3, *size), self._device)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._pipeline is None:
            raise ValueError("the loader is closed")
        try:
            return self._take()
        except Exception:
            self.close()
            raise

    def _take(self) -> Batch:
        if not self._pending:
            if self._failure is not None:
                raise self._failure
            for _ in range(_PREFETCH):
                self._feed()
            # The first call starts as many batches as are prefetched, later ones one each.
            self._pipeline.schedule_run()
        try:
            outputs = self._pipeline.share_outputs()
        except Exception as error:
            self._blame(error)
        done = self._pending.popleft()
        if self._graph.stored is not None:
            self._check_shapes(done, outputs[1].as_array())
        # A copy: DALI reuses its own memory for a later batch.
        images = self._memory.take()
        copy_output(outputs[0], images)
        self._pipeline.release_outputs()
        self._feed_ahead()
        labels = torch.from_numpy(self._dataset.labels[done.indices]).to(self._device)
        return Batch(images, labels, done.indices, done.position)

    def close(self) -> None:
        """Stop decoding ahead and free the pipeline."""
        self._pipeline = None
        self._pending.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _feed_ahead(self) -> None:
        """Start the next batch; one that cannot be read is told when it is due, after those before it."""
        if self._failure is not None:
            return
        try:
            self._feed()
        except Exception as error:
            self._failure = error
            return
        self._pipeline.schedule_run()

    def _feed(self) -> None:
        """Hand the next batch of this rank to the pipeline."""
        start = self._next_position + self._rank * self._batch_size
        epochs, indices = self._order.slice(start, self._batch_size)
        self._next_position += self._world_size * self._batch_size
        payloads = self._dataset.payloads(indices)
        self._refuse_cut_off(payloads, indices)
        feed(self._pipeline, self._graph, payloads, draw(self._augmentation, self._seed, epochs, indices))
        self._pending.append(_Pending(payloads, indices, self._next_position))

    def _refuse_cut_off(self, payloads: Payloads, indices: Ints) -> None:
        """What does not look like a whole JPEG or a PNG is tried by OpenCV first: DALI would write about it
        to standard error on its own.
        """
        for payload, index in zip(payloads, indices.tolist(), strict=True):
            start, end = payload[:2].tobytes(), payload[-2:].tobytes()
            looks_whole = (start == b"\xff\xd8" and end == b"\xff\xd9") or start == b"\x89P"
            if not looks_whole and decode_image(payload.data) is None:
                self._refuse(index, "its image cannot be decoded")

    def _check_shapes(self, batch: _Pending, shapes: Ints) -> None:
        wrong = (shapes[:, :2] != self._graph.stored).any(axis=1)
        if wrong.any():
            place = int(np.argmax(wrong))
            self._refuse_size(int(batch.indices[place]), (int(shapes[place, 0]), int(shapes[place, 1])))

    def _blame(self, error: Exception) -> NoReturn:
        """Find the image at which DALI stopped and name it."""
        for batch in self._pending:
            for payload, index in zip(batch.payloads, batch.indices.tolist(), strict=True):
                image = decode_image(payload.data)
                if image is None:
                    self._refuse(index, "its image cannot be decoded")
                if self._graph.stored is not None and image.shape[:2] != self._graph.stored:
                    self._refuse_size(index, (image.shape[0], image.shape[1]))
        for batch in self._pending:
            for payload, index in zip(batch.payloads, batch.indices.tolist(), strict=True):
                if not decodes(payload):
                    self._refuse(index, "its image cannot be decoded by DALI")
        raise error

    def _refuse_size(self, index: int, found: tuple[int, int]) -> NoReturn:
        height, width = self._graph.stored or found
        self._refuse(
            index, f"its image has {found[0]} x {found[1]} pixels, not {height} x {width} as the others"
        )

    def _refuse(self, index: int, problem: str) -> NoReturn:
        key, label, offset = (
            self._dataset.key(index),
            int(self._dataset.labels[index]),
            self._dataset.offset(index),
        )
        folder = self._dataset.folder
        raise RecordError(
            self._dataset.file,
            offset,
            f"record {key} of class {label}: {problem}; `cosface inspect {folder}` lists all such records, "
            "replace them or leave them out",
        )


class _Memory:
    """Tensors of one shape; on the CPU, memory that nobody holds any more is handed out again.

    Fresh memory for a large batch costs three times the copy into it, as the kernel maps it page by page.
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        self._shape, self._device = shape, device
        self._arrays: list[npt.NDArray[np.float32]] = []
        # What an array counts that the list alone holds: interpreters differ.
        self._unheld = _holders([np.empty(0, dtype=np.float32)])[0]

    def take(self) -> torch.Tensor:
        if self._device.type != "cpu":
            return torch.empty(self._shape, device=self._device)
        # A tensor made from an array holds it, and so does every view of that tensor.
        for place, holders in enumerate(_holders(self._arrays)):
            if holders == self._unheld:
                return torch.from_numpy(self._arrays[place])
        # More than a few at once are kept by the caller; those go when the caller lets go of them.
        array = np.empty(self._shape, dtype=np.float32)
        if len(self._arrays) < _REUSED:
            self._arrays.append(array)
        return torch.from_numpy(array)


def _holders(arrays: list[npt.NDArray[np.float32]]) -> list[int]:
    return [sys.getrefcount(array) for array in arrays]


def _device_id(device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    return torch.cuda.current_device() if device.index is None else device.index
