"""Center loss (Wen, Zhang, Li and Qiao, ECCV 2016, eq. 2 to 4), its centres sharded over the ranks by class.

    L = ½ mean_i ‖x_i − c_{y_i}‖²        d L / d x_i = (x_i − c_{y_i}) / images

over the labelled images of the whole batch, times the weight λ wherever it is added to another loss. Centres
are not moved by a gradient but towards their images:

    c_j −= α Δc_j        Δc_j = Σ_i δ(y_i = j) (c_j − x_i) / (1 + Σ_i δ(y_i = j))

The owner of a class computes its images' distances, of which one exchange makes a sum that is the same on
every rank; the gradient goes back to the ranks that own the images. Rows of other classes are not touched.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from partial_fc.batch import Shard, owned_images
from partial_fc.communicator import Communicator
from partial_fc.errors import require
from partial_fc.exchange import Layout, add_up, gather_images, scatter_gradient
from partial_fc.inputs import check_classes
from partial_fc.sharding import class_range
from trainer.losses.auxiliary import AuxiliaryLoss


class CenterLoss(AuxiliaryLoss):
    """See the module; all centres begin at 0. For embeddings [batch, embedding_dim] of num_classes classes.

    rate: α. device: where this rank's centres live. normalise, communicator: see AuxiliaryLoss; the paper's
    embeddings have their length.
    Raises HeadInputError for arguments that cannot be used.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        rate: float = 0.5,
        normalise: bool = False,
        communicator: Communicator | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(normalise, communicator, embedding_dim)
        require(embedding_dim >= 1, "embedding_dim", "at least 1", embedding_dim)
        require(0 < rate <= 1, "rate", "above 0 and at most 1", rate)
        self.num_classes = num_classes
        self.rate = rate
        first, last = class_range(num_classes, self.communicator.rank, self.communicator.world_size)
        centres = torch.zeros(last - first, embedding_dim, dtype=torch.float32, device=device)
        self._shard = Shard(first, centres, {})
        self._backpropagated: list[tuple[Tensor, Tensor]] = []

    @property
    def class_range(self) -> tuple[int, int]:
        """(first, last) classes of this rank, first inclusive, last exclusive."""
        return self._shard.first, self._shard.last

    @property
    def local_centres(self) -> Tensor:
        """[last - first, embedding_dim] float32: this rank's centres, readable and writable in place."""
        return self._shard.weight

    def of_inputs(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """See AuxiliaryLoss. Raises LabelError for labels that are no class."""
        return cast(Tensor, _CenterLoss.apply(inputs, labels, self))  # type: ignore[no-untyped-call]

    def step(self) -> None:
        """Move the centres of the images that were backpropagated since the last step."""
        passes, self._backpropagated = self._backpropagated, []
        if passes:
            classes, offsets = (torch.cat(parts) for parts in zip(*passes, strict=True))
            moved, place, counts = torch.unique(classes, return_inverse=True, return_counts=True)
            total = offsets.new_zeros(len(moved), offsets.shape[1]).index_add_(0, place, offsets)
            self.local_centres[moved] += self.rate * total / (1 + counts)[:, None]

    def sharded_state(self) -> dict[str, Tensor]:
        """See AuxiliaryLoss."""
        return {"centre": self.local_centres}

    def _forward(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Layout, tuple[Tensor, ...]]:
        gathered = gather_images(self.communicator, inputs, labels, torch.float32, self.num_classes)
        check_classes(gathered, self.num_classes)
        everyone, all_labels = gathered.embeddings, gathered.labels
        owned, classes = owned_images(all_labels, self._shard)
        offsets = everyone[owned] - self.local_centres[classes]
        squared = everyone.new_zeros(len(everyone), dtype=torch.float64)
        squared[owned] = offsets.double().square().sum(dim=1)
        count = (all_labels >= 0).sum().clamp_min(1)
        loss = add_up(self.communicator, squared).sum() / (2 * count)
        gradient = torch.zeros_like(everyone)
        gradient[owned] = offsets / count
        return loss.float(), gathered.layout, (gradient, classes, offsets)

    def _backward(self, layout: Layout, gradient: Tensor, classes: Tensor, offsets: Tensor) -> Tensor:
        self._backpropagated.append((classes, offsets))
        own = scatter_gradient(self.communicator, gradient, layout, torch.float32)
        return own * self.communicator.world_size


class _CenterLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, labels: Tensor, of: CenterLoss) -> Tensor:
        loss, ctx.layout, tensors = of._forward(inputs, labels)
        ctx.save_for_backward(*tensors)
        ctx.of = of
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.of._backward(ctx.layout, *ctx.saved_tensors) * gradients[0], None, None
