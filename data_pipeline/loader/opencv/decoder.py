"""Batches decoded by OpenCV in the processes of a torch DataLoader, for machines without DALI.

It does what the DALI graph does, step by step, on pixels; tests hold one against the other. A worker process
opens the set for itself, so nothing but pixels travels back.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch.utils.data import DataLoader, Dataset

from data_pipeline.augment.normalise import normalise_into
from data_pipeline.errors import DataInputError
from data_pipeline.files.workers import signals_held
from data_pipeline.loader.dali.pipeline import Graph
from data_pipeline.loader.memory import ReusedMemory
from data_pipeline.loader.opencv.images import opencv_batch
from data_pipeline.loader.take import Choice, Chooser
from data_pipeline.order.batching import Share

DEADLINE_S = 600.0
_AHEAD = 2
_RUNS_OWN = {signal.SIGINT, signal.SIGTERM}


@dataclass(frozen=True)
class _Decoded:
    """A batch as a worker sends it. payloads of the choice are left out; found: damaged images met."""

    choice: Choice
    pixels: torch.Tensor
    found: list[tuple[int, str]]


class _Steps(Dataset[_Decoded | DataInputError]):
    """Item `share` is that share's batch; a copy lives in each worker."""

    def __init__(self, graph: Graph, chooser: Chooser) -> None:
        self._graph, self._chooser = graph, chooser

    def __getitem__(self, share: Share) -> _Decoded | DataInputError:
        try:
            return self._decoded(share)
        except DataInputError as error:
            return error  # raised, it would come back with the worker's traceback for a message

    def _decoded(self, share: Share) -> _Decoded:
        chooser = self._chooser
        known = len(chooser.damaged)
        while True:
            choice = chooser.choose(share)
            graph = self._graph
            pixels, damaged = opencv_batch(
                choice.payloads, choice.parameters, graph.augmentation, stored=graph.stored, size=graph.size
            )
            if not damaged:
                break
            for place, reason in damaged.items():
                chooser.damaged.add(int(choice.indices[place]), reason)
        found = list(chooser.damaged.reasons.items())[known:]
        bare = replace(choice, payloads=[], unusual=[])
        return _Decoded(bare, torch.from_numpy(pixels), found)


class OpenCVDecoder:
    """Decodes what `chooser` takes of each share, in `graph.num_threads` processes."""

    def __init__(self, graph: Graph, chooser: Chooser) -> None:
        self._graph, self._damaged = graph, chooser.damaged
        self._steps = _Steps(graph, chooser.for_itself())
        self._memory = ReusedMemory((graph.batch_size, 3, *graph.size), torch.device("cpu"))
        self._workers: Iterator[_Decoded | DataInputError] | None = None

    def batches(self, shares: Iterator[Share]) -> Iterator[tuple[Choice, torch.Tensor]]:
        """Endless: choices and their images, float32 [n, 3, H, W]."""
        loader: DataLoader[_Decoded | DataInputError] = DataLoader(
            self._steps,
            batch_size=None,
            sampler=shares,
            num_workers=self._graph.num_threads,
            prefetch_factor=_AHEAD,
            # Forked, a process that holds threads (torch's, gloo's) may hang.
            multiprocessing_context="spawn",
            worker_init_fn=_prepare_worker,
            timeout=DEADLINE_S,
        )
        # Ctrl-C and a scheduler's SIGTERM go to the whole group, and it is the run that decides when workers
        # end: they start with both held back, and then ignore them.
        with signals_held(_RUNS_OWN):
            self._workers = iter(loader)
        for decoded in self._workers:
            if isinstance(decoded, DataInputError):
                raise decoded
            for index, reason in decoded.found:
                self._damaged.add(index, reason)
            images = self._memory.take(len(decoded.pixels))
            normalise_into(decoded.pixels.numpy(), None, images.numpy())  # mirrored already
            yield decoded.choice, images
            del decoded, images  # so that their memory can be handed out again

    def close(self) -> None:
        """End the worker processes."""
        workers, self._workers = self._workers, None
        if workers is not None and hasattr(workers, "_shutdown_workers"):
            with contextlib.suppress(RuntimeError):
                workers._shutdown_workers()


def _prepare_worker(_: int) -> None:
    import cv2

    for number in _RUNS_OWN:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _RUNS_OWN)

    cv2.setNumThreads(1)  # one image a process; OpenCV's own threads would only contend
    # A worker that is ended in the middle of sending a batch: the interpreter would end the sending thread
    # inside torch's code, which then aborts the process with a line on standard error.
    atexit.register(os._exit, 0)
