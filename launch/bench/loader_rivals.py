"""The loaders that `cosface bench loader` compares: each an endless supply of training batches of one set.

All give float32 [B, 3, H, W] tensors of decoded, mirrored, normalised images, but for the bare decoders,
which show what decoding alone would allow.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_pipeline.augment.settings import PRESETS
from data_pipeline.images.decode import decode_image
from data_pipeline.loader.dali.pipeline import copy_output
from data_pipeline.loader.loader import TrainLoader
from data_pipeline.order.blocks import BlockOrder
from data_pipeline.order.whole_set import GlobalOrder
from data_pipeline.sets.record_folder import FaceDataset

# What arcface_torch gives DALI's reader to shuffle in.
_SHUFFLE_BUFFER = 8192
_KEPT_FOR_BARE_DECODING = 2048


@dataclass(frozen=True)
class LoaderCase:
    """One row of the table."""

    rival: str
    folder: str
    threads: int
    batch_size: int


def batches(case: LoaderCase, stack: ExitStack) -> Iterator[int]:
    """Endless: the number of images of each batch, which is ready when it comes."""
    dataset = stack.enter_context(FaceDataset.open(case.folder))
    return RIVALS[case.rival](case, dataset, stack)


def _ours(case: LoaderCase, dataset: FaceDataset, stack: ExitStack, **settings: Any) -> Iterator[int]:
    order = settings.pop("order", None) or GlobalOrder(dataset.num_images, 0)
    loader = TrainLoader(
        dataset, order, batch_size=case.batch_size, num_threads=case.threads, max_damaged=0.5, **settings
    )
    stack.enter_context(loader)
    return (len(batch.labels) for batch in loader)


def _blocks(case: LoaderCase, dataset: FaceDataset, stack: ExitStack) -> Iterator[int]:
    return _ours(case, dataset, stack, order=BlockOrder(dataset.num_images, 0, block=256, window=16))


def _fallback(case: LoaderCase, dataset: FaceDataset, stack: ExitStack) -> Iterator[int]:
    return _ours(case, dataset, stack, decoder="opencv")


def _adaface(case: LoaderCase, dataset: FaceDataset, stack: ExitStack) -> Iterator[int]:
    return _ours(case, dataset, stack, augmentation=PRESETS["adaface"])


def _readers_mxnet(case: LoaderCase, dataset: FaceDataset, stack: ExitStack) -> Iterator[int]:
    """DALI's own pipeline over RecordIO, as arcface_torch has it."""
    index = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "images.idx"
    # The header and identity records, which it would take for images, are left out of the index.
    lines = (f"{dataset.key(image)}\t{dataset.offset(image)}\n" for image in range(dataset.num_images))
    index.write_text("".join(lines))

    def images(fn: Any, types: Any) -> Any:
        encoded, _ = fn.readers.mxnet(
            path=str(dataset.file),
            index_path=str(index),
            random_shuffle=True,
            initial_fill=_SHUFFLE_BUFFER,
            pad_last_batch=False,
            name="train",
        )
        decoded = fn.decoders.image(encoded, device="cpu", output_type=types.RGB)
        return fn.crop_mirror_normalize(
            decoded,
            dtype=types.FLOAT,
            output_layout="CHW",
            mirror=fn.random.coin_flip(probability=0.5),
            mean=[127.5] * 3,
            std=[128.0] * 3,
        )

    height, width = dataset.image_size
    target = torch.empty(case.batch_size, 3, height, width)
    return _run(case, images, lambda outputs: copy_output(outputs[0], target))


def _bare_dali(case: LoaderCase, dataset: FaceDataset, stack: ExitStack) -> Iterator[int]:
    """DALI's decoder alone, the encoded images lying in memory, the pixels thrown away."""
    kept = dataset.payloads(np.arange(min(dataset.num_images, _KEPT_FOR_BARE_DECODING)))
    starts = iter(range(0, 1 << 62, case.batch_size))

    def source() -> list[Any]:
        start = next(starts)
        return [kept[(start + place) % len(kept)] for place in range(case.batch_size)]

    def images(fn: Any, types: Any) -> Any:
        encoded = fn.external_source(source, dtype=types.UINT8, ndim=1, no_copy=True)
        return fn.decoders.image(encoded, device="cpu", output_type=types.RGB)

    return _run(case, images, lambda outputs: None)


def _run(case: LoaderCase, graph: Callable[[Any, Any], Any], use: Callable[[Any], None]) -> Iterator[int]:
    importlib.import_module("nvidia.dali.fn")
    dali = importlib.import_module("nvidia.dali")
    pipeline: Any = dali.Pipeline(
        batch_size=case.batch_size, num_threads=case.threads, device_id=None, prefetch_queue_depth=2
    )
    with pipeline:
        pipeline.set_outputs(graph(dali.fn, dali.types))
    pipeline.build()
    while True:
        outputs = pipeline.run()
        use(outputs)
        yield case.batch_size


def _bare_opencv(case: LoaderCase, dataset: FaceDataset, stack: ExitStack) -> Iterator[int]:
    """OpenCV's decoder alone, in threads; it lets go of the interpreter while it decodes."""
    import cv2

    cv2.setNumThreads(1)
    kept = dataset.payloads(np.arange(min(dataset.num_images, _KEPT_FOR_BARE_DECODING)))
    pool = stack.enter_context(ThreadPoolExecutor(case.threads))
    parts = [range(first, case.batch_size, case.threads) for first in range(case.threads)]

    def decode(start: int, part: range) -> None:
        for place in part:
            decode_image(kept[(start + place) % len(kept)].data)

    start = 0
    while True:
        list(pool.map(decode, [start] * len(parts), parts))
        start += case.batch_size
        yield case.batch_size


RIVALS: dict[str, Callable[[LoaderCase, FaceDataset, ExitStack], Iterator[int]]] = {
    "bare DALI decoder": _bare_dali,
    "bare OpenCV decoder": _bare_opencv,
    "readers.mxnet": _readers_mxnet,
    "cosface, random": _ours,
    "cosface, blocks": _blocks,
    "cosface, OpenCV": _fallback,
    "cosface, adaface": _adaface,
}


def anonymous_mib() -> float:
    """What this process holds of its own: neither the mapped file nor libraries."""
    for line in Path(f"/proc/{os.getpid()}/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return 0.0
