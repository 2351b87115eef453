"""Which images a rank takes at its share of a step, damaged ones replaced, with how each is augmented."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_pipeline.augment.settings import Augmentation, Parameters, draw
from data_pipeline.errors import RecordError
from data_pipeline.images.soundness import damages, unusual
from data_pipeline.loader.damaged import DamagedImages
from data_pipeline.order.batching import Share
from data_pipeline.order.whole_set import Order
from data_pipeline.sets.source import ImageSource, Ints, Payloads

IGNORED = -1


@dataclass(frozen=True)
class Choice:
    """A share's images. indices: int64 [n], places in the set. labels: int64 [n], -1 for those that fill up
    the last batch of an epoch. payloads: the n encoded images. parameters: n draws of the augmentation.
    unusual: places of the payloads that are no `is_usual_jpeg`.
    """

    share: Share
    indices: Ints
    labels: Ints
    payloads: Payloads
    parameters: Parameters
    unusual: list[int]


class Chooser:
    """Takes the images of shares of the order.

    A damaged image is replaced by the next of the order that is not, so which image stands at a position
    depends on the set and the order alone, not on the ranks or on who found the damage; that image then
    comes twice. Picklable: a worker process may have its own.
    """

    def __init__(
        self,
        source: ImageSource,
        order: Order,
        augmentation: Augmentation,
        seed: int,
        damaged: DamagedImages,
    ) -> None:
        self.source, self.order, self.damaged = source, order, damaged
        self._augmentation, self._seed = augmentation, seed

    def for_itself(self) -> Chooser:
        """One like this that keeps a record of its own of what is damaged, as a worker process does."""
        return Chooser(self.source, self.order, self._augmentation, self._seed, DamagedImages(self.source))

    def choose(self, share: Share) -> Choice:
        """The share's images. Raises TooManyDamaged if the set has no other image left."""
        epochs, indices = self.order.slice(share.start, share.count)
        while True:
            self._replace(share, epochs, indices)
            payloads = self._read(indices)
            if payloads is None:
                continue
            places = unusual(payloads)
            if not self._note(damages(payloads, places), indices):
                break
        labels = self.source.labels_of(indices)
        labels[share.labelled :] = IGNORED
        parameters = draw(self._augmentation, self._seed, epochs, indices)
        return Choice(share, indices, labels, payloads, parameters, places)

    def _replace(self, share: Share, epochs: Ints, indices: Ints) -> None:
        """Put the next images of the order in place of those that are known to be damaged."""
        if len(self.damaged) >= self.source.num_images:
            self.damaged.check(0)
        for place in self.damaged.among(indices).tolist():
            position = share.start + place
            while indices[place] in self.damaged.reasons:
                position += 1
                epoch, image = self.order.slice(position, 1)
                epochs[place], indices[place] = epoch[0], image[0]

    def _note(self, found: dict[int, str], indices: Ints) -> bool:
        """Note damaged images by their places among the indices; whether there are any."""
        for place, reason in found.items():
            self.damaged.add(int(indices[place]), reason)
        return bool(found)

    def _read(self, indices: Ints) -> Payloads | None:
        """The encoded images, or None if damaged records were found among them."""
        known = len(self.damaged)
        try:
            return self.source.payloads(indices)
        except RecordError:
            for index in indices.tolist():
                try:
                    self.source.payloads(np.array([index]))
                except RecordError as error:
                    self.damaged.add(index, error.reason)
            if len(self.damaged) == known:
                raise
            return None
