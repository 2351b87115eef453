"""Losses of pairs and triplets of the gathered batch, computed alike on every rank."""

from __future__ import annotations

from torch import Tensor

from trainer.losses.auxiliary import AuxiliaryLoss, gather


class PairLoss(AuxiliaryLoss):
    """The base: gathers all labelled images; labels below 0 are left out.

    In float64, for G images are few: distances of near images keep their digits, and the gradient of an image
    that is in many pairs is added up in one order, so that every rank and every run gets the same bits.
    """

    def of_inputs(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """See AuxiliaryLoss."""
        everyone, all_labels = gather(self.communicator, inputs, labels)
        labelled = all_labels >= 0
        images = everyone[labelled].double()
        # Comparisons with NaN are false: pairs of an image that is none would be left out without a word.
        return (self.of_batch(images, all_labels[labelled]) + 0.0 * images.sum()).float()

    def of_batch(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of a whole batch: images [G, dim] float64, labels [G] int64; 0 where it has no term."""
        raise NotImplementedError
