"""Batches decoded by DALI, always a few ahead; a damaged image is found, replaced, and all goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from data_pipeline.augment.normalise import normalise_into
from data_pipeline.augment.on_cpu import change_batch
from data_pipeline.augment.pixel_settings import settings_of
from data_pipeline.augment.settings import Parameters
from data_pipeline.images.decode import decoded
from data_pipeline.images.hand_over import REFUSED, as_pixels, left_to_opencv
from data_pipeline.loader.dali.pipeline import Graph, build, copy_output, decodes, feed
from data_pipeline.loader.memory import ReusedMemory
from data_pipeline.loader.opencv.images import wrong_size
from data_pipeline.loader.take import Choice, Chooser
from data_pipeline.order.batching import Share

PREFETCHED = 2


class DaliDecoder:
    """Decodes what `chooser` takes of each share; of one thread, the caller's, beside DALI's own.

    handed_over: where it notes the images that OpenCV decodes instead, by index, each with the reason.
    """

    def __init__(
        self, graph: Graph, chooser: Chooser, device: torch.device, handed_over: dict[int, str]
    ) -> None:
        self._graph, self._chooser, self._handed_over = graph, chooser, handed_over
        self._refused: set[int] = set()
        self._memory = ReusedMemory((graph.batch_size, 3, *graph.size), device)
        # On the CPU what comes after decoding is done here, straight into memory that is handed out.
        self._finished = device.type != "cpu"
        self._pipeline: Any = build(graph, PREFETCHED, finished=self._finished)
        self._pending: deque[Choice] = deque()
        self._started = False

    def batches(self, shares: Iterator[Share]) -> Iterator[tuple[Choice, torch.Tensor]]:
        """Endless: choices and their images, float32 [n, 3, H, W].

        What goes wrong with a batch is raised when it is due, after those before it.
        """
        failure: Exception | None = None
        while True:
            while failure is None and len(self._pending) < PREFETCHED:
                failure = self._start_next(shares)
            if not self._pending:
                assert failure is not None
                raise failure
            images = self._take()
            if images is None:
                failure = self._start_again() or failure
                continue
            done = self._pending.popleft()
            # The next batch is decoded while this one is used.
            failure = failure or self._start_next(shares)
            yield done, images
            del done, images  # so that their memory can be handed out again

    def close(self) -> None:
        """Stop decoding ahead and free the pipeline."""
        self._pipeline = None
        self._pending.clear()

    def _start_next(self, shares: Iterator[Share]) -> Exception | None:
        """Hand the next share's batch to the pipeline; what went wrong."""
        try:
            choice = self._choose(next(shares))
            feed(self._pipeline, self._graph, choice.payloads, choice.parameters, finished=self._finished)
            self._pending.append(choice)
            # The first call starts as many batches as are prefetched, later ones one each.
            if self._started or len(self._pending) == PREFETCHED:
                self._pipeline.schedule_run()
                self._started = True
        except Exception as error:
            return error
        return None

    def _choose(self, share: Share) -> Choice:
        """The share's images, those that DALI is not given as pixels that OpenCV has made of them."""
        damaged = self._chooser.damaged
        while True:
            choice, known = self._chooser.choose(share), len(damaged)
            for place in self._unusual(choice):
                payload, index = choice.payloads[place], int(choice.indices[place])
                reason = REFUSED if index in self._refused else left_to_opencv(payload)
                if reason is None:
                    continue
                image = decoded(payload)
                if isinstance(image, str):
                    damaged.add(index, image)
                else:
                    choice.payloads[place] = as_pixels(image)
                    self._handed_over.setdefault(index, reason)
            if len(damaged) == known:
                return choice

    def _unusual(self, choice: Choice) -> list[int]:
        """Places of the images that DALI may not be given."""
        if not self._refused:
            return choice.unusual
        refused = np.flatnonzero(np.isin(choice.indices, list(self._refused)))
        return sorted({*choice.unusual, *refused.tolist()})

    def _take(self) -> torch.Tensor | None:
        """The first pending batch's images, or None if damaged ones were found among the pending."""
        try:
            if not self._started:
                # Fewer batches than are prefetched come at all.
                self._pipeline.schedule_run()
                self._started = True
            outputs = self._pipeline.share_outputs()
        except RuntimeError:
            known = len(self._refused)
            self._blame()
            if len(self._refused) == known and not any(map(self._holds_damaged, self._pending)):
                raise
            return None
        choice = self._pending[0]
        images = self._memory.take(len(choice.indices))
        if self._finished:
            if self._graph.stored is not None:
                self._note_sizes(choice, outputs[1].as_array()[:, :2])
            # A copy: DALI reuses its own memory for a later batch.
            copy_output(outputs[0], images)
        else:
            if not (
                outputs[0].is_dense_tensor() and tuple(outputs[0][0].shape()[:2]) == self._graph.worked_size
            ):
                self._note_sizes(choice, np.array([size[:2] for size in outputs[0].shape()]))
                return None
            self._finish(np.asarray(outputs[0].as_tensor()), choice.parameters, images)
        self._pipeline.release_outputs()
        return None if self._holds_damaged(choice) else images

    def _holds_damaged(self, choice: Choice) -> bool:
        """Whether it has images that are known to be damaged by now, found here or by another rank."""
        return len(self._chooser.damaged.among(choice.indices)) > 0

    def _finish(self, pixels: npt.NDArray[np.uint8], parameters: Parameters, images: torch.Tensor) -> None:
        """Augment in place, then crop, mirror and normalise."""
        graph = self._graph
        if graph.augmentation.changes_pixels:
            settings = settings_of(graph.augmentation, parameters, graph.worked_size)
            change_batch(pixels, settings)
        normalise_into(pixels, parameters.mirror, images.numpy())

    def _start_again(self) -> Exception | None:
        """A new pipeline, and in it what was pending, without the damaged images; what went wrong."""
        pending, self._pending = self._pending, deque()
        self._pipeline = build(self._graph, PREFETCHED, finished=self._finished)
        self._started = False
        failure: Exception | None = None
        for choice in pending:
            failure = failure or self._start_next(iter([choice.share]))
        return failure

    def _note_sizes(self, choice: Choice, sizes: npt.NDArray[np.int64]) -> None:
        """Note images of another size than the set's."""
        height, width = self._graph.worked_size
        for place in np.flatnonzero((sizes != (height, width)).any(axis=1)).tolist():
            found = int(sizes[place, 0]), int(sizes[place, 1])
            self._chooser.damaged.add(int(choice.indices[place]), wrong_size(found, (height, width)))

    def _blame(self) -> None:
        """Note the images at which DALI may have stopped: as damaged those of another size and those that
        OpenCV refuses too, to be decoded by OpenCV those that it alone refuses; never others, so that who
        happened to be decoded beside them makes no difference.
        """
        images = [
            (payload, index)
            for choice in self._pending
            for payload, index in zip(choice.payloads, choice.indices.tolist(), strict=True)
        ]
        refused: dict[int, str] = {}
        for payload, index in images:
            image = decoded(payload)
            if isinstance(image, str):
                # OpenCV refuses it: most likely it is this one. Asking DALI about each image takes long.
                if not decodes(payload):
                    refused[index] = image
            elif self._graph.stored not in (None, image.shape[:2]):
                refused[index] = wrong_size((image.shape[0], image.shape[1]), self._graph.worked_size)
        if not refused:
            self._refused.update(index for payload, index in images if not decodes(payload))
        for index, reason in refused.items():
            self._chooser.damaged.add(index, reason)
