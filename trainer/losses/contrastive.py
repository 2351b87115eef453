"""Contrastive loss (Hadsell et al., CVPR 2006, eq. 4; beside a softmax: Sun et al., DeepID2, NIPS 2014).

With d the distance of two images' embeddings,

    one identity:   ½ max(0, d − m₊)²        two identities:   ½ max(0, m₋ − d)²

The papers have m₊ = 0; a larger one lets images of an identity differ. They add up sampled pairs. Here all
pairs of the batch count: the mean over the pairs of one identity that are not yet within m₊, plus the mean
over the pairs of two identities that are not yet m₋ apart. A batch has far more of the latter.
"""

from __future__ import annotations

from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import ContrastiveLoss as LinearContrastiveLoss
from torch import Tensor

from partial_fc.communicator import Communicator
from partial_fc.errors import require
from trainer.losses.pairs import PairLoss


class ContrastiveLoss(PairLoss):
    """positive_margin: m₊; negative_margin: m₋; both are distances, and unit vectors are 0 to 2 apart.

    normalise, communicator: see AuxiliaryLoss. Raises HeadInputError for margins that are not 0 ≤ m₊ < m₋.
    """

    def __init__(
        self,
        positive_margin: float = 0.0,
        negative_margin: float = 1.0,
        *,
        normalise: bool = True,
        communicator: Communicator | None = None,
    ) -> None:
        super().__init__(normalise, communicator)
        require(positive_margin >= 0, "positive_margin", "at least 0", positive_margin)
        above = f"above the positive margin, {positive_margin:g}"
        require(negative_margin > positive_margin, "negative_margin", above, negative_margin)
        self._loss = _SquaredContrastiveLoss(
            pos_margin=positive_margin,
            neg_margin=negative_margin,
            distance=LpDistance(normalize_embeddings=False),
        )

    def of_batch(self, images: Tensor, labels: Tensor) -> Tensor:
        """See PairLoss."""
        loss: Tensor = self._loss(images, labels)
        return loss


class _SquaredContrastiveLoss(LinearContrastiveLoss):  # type: ignore[misc]
    """The library's loss is linear in what is missing to the margin, the papers' is its square."""

    def pos_calc(self, pos_pair_dist: Tensor, margin: float) -> Tensor:
        return (pos_pair_dist - margin).clamp_min(0).square() / 2

    def neg_calc(self, neg_pair_dist: Tensor, margin: float) -> Tensor:
        return (margin - neg_pair_dist).clamp_min(0).square() / 2
