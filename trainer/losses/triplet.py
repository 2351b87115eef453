"""Triplet loss (FaceNet: Schroff, Kalenichenko and Philbin, CVPR 2015, eq. 3 and section 3.2).

For an anchor a, a positive p of its identity and a negative n of another,

    max(0, ‖a − p‖² − ‖a − n‖² + α)

its mean over the triplets of the batch that violate the margin α. Mining says which of these count:

    semihard    the negative is further off than the positive (the paper's choice: it does not collapse)
    hard        it is not
    all         both
"""

from __future__ import annotations

from typing import Literal

import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import TripletMarginMiner
from torch import Tensor

from partial_fc.communicator import Communicator
from partial_fc.errors import require
from trainer.losses.pairs import PairLoss

Mining = Literal["semihard", "hard", "all"]


class TripletLoss(PairLoss):
    """See the module. margin is α, of squared distances: those of unit embeddings are 0 to 4.

    normalise, communicator: see AuxiliaryLoss. Raises HeadInputError for a margin or a mining that is none.
    """

    def __init__(
        self,
        margin: float = 0.2,
        mining: Mining = "semihard",
        *,
        normalise: bool = True,
        communicator: Communicator | None = None,
    ) -> None:
        super().__init__(normalise, communicator)
        require(margin > 0, "margin", "above 0", margin)
        require(mining in ("semihard", "hard", "all"), "mining", "semihard, hard or all", mining)
        squared = LpDistance(normalize_embeddings=False, power=2)
        self._miner = TripletMiner(margin=margin, type_of_triplets=mining, distance=squared)
        self._loss = TripletMarginLoss(margin=margin, distance=squared)

    def of_batch(self, images: Tensor, labels: Tensor) -> Tensor:
        """See PairLoss."""
        loss: Tensor = self._loss(images, labels, self._miner(images, labels))
        return loss


class TripletMiner(TripletMarginMiner):  # type: ignore[misc]
    """The library's miner, for large batches: its triplets without a table of all G³ that there could be.

    It needs memory for (pairs of one identity) × G.
    """

    def mine(
        self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor, ref_labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Anchors, positives and negatives [triplets] that the library's own would return, in its order."""
        distances = self.distance(embeddings, ref_emb)
        others = labels[:, None] != labels
        anchor, positive = torch.where((~others).fill_diagonal_(False))
        further_by = distances[anchor] - distances[anchor, positive][:, None]
        wanted = others[anchor] & (further_by <= self.margin)
        if self.type_of_triplets != "all":
            wanted &= (further_by <= 0) == (self.type_of_triplets == "hard")
        pair, negative = torch.where(wanted)
        return anchor[pair], positive[pair], negative
