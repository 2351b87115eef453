"""PartialFC: the margin softmax over class centres that are sharded between ranks.

A step, in the order of the file: gather everybody's embeddings and labels; pass over this rank's centres;
merge the ranks' sums into the loss; backward: the gradient of the embeddings goes back to the ranks that
own the images; step: the gradient of the centres goes tile by tile into the update (Wang et al., CVPR
2018, for the losses; An et al., CVPR 2022, for the sharding).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from partial_fc.communicator import Communicator, default_communicator
from partial_fc.errors import HeadInputError, LabelError
from partial_fc.exchange import Layout, gather_images, merge_softmax, scatter_gradient
from partial_fc.initial import fill_initial_centres
from partial_fc.kernels import tiles
from partial_fc.margins import Margin
from partial_fc.numerics import project, unit_rows
from partial_fc.optim import SGD
from partial_fc.sampling import sample_classes
from partial_fc.shard import Backpropagated, Batch, Shard, target_logits
from partial_fc.sharding import class_range

INITIAL_STD = 0.01


@dataclass
class _Forward:
    """What the backward pass needs of the forward pass."""

    layout: Layout
    batch: Batch
    selected: Tensor | None  # [S]
    slope: Tensor  # [T]
    negatives: Tensor  # [G]
    pull: Tensor  # [G]
    input_gradient: Tensor  # [G, dim]: this rank's part of d loss / d inputs
    unit: Tensor  # [batch, dim] this rank's own inputs, of unit length if inverse is given
    inverse: Tensor | None  # [batch]


class PartialFC:
    """A margin softmax whose class centres are sharded over the ranks of a communicator.

    num_classes: classes of all ranks together; rank r owns `class_range`, ranges differ by one at most.
    embedding_dim: length of an embedding.
    margin: the loss; see margins.py.
    sample_rate: the part of a rank's classes that a step computes with, the batch's own always among them;
        the others keep centre and momentum bit for bit. Drawn from (seed, steps_taken).
    momentum, weight_decay: of the class centres (and Softmax's biases), as torch.optim.SGD's.
    compute_dtype: what the matrix products are made in, torch.float32 or torch.bfloat16; sums, norms,
        centres and momentum are float32 either way.
    communicator: how ranks meet; None takes torch.distributed if it is initialised, else one rank.
    seed: a class's first centre depends on (seed, class) alone.
    device: where this rank's centres live.
    Raises HeadInputError for arguments that cannot be used.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        margin: Margin,
        *,
        sample_rate: float = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        compute_dtype: torch.dtype = torch.float32,
        communicator: Communicator | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        if embedding_dim < 1:
            raise HeadInputError(f"embedding_dim must be at least 1, got {embedding_dim}")
        if compute_dtype not in (torch.float32, torch.bfloat16):
            raise HeadInputError(f"compute_dtype must be float32 or bfloat16, got {compute_dtype}")
        if not 0 < sample_rate <= 1:
            raise HeadInputError(f"sample_rate must be above 0 and at most 1, got {sample_rate}")
        self.num_classes = num_classes
        self.embedding_dim = embedding_dim
        self.margin = margin
        self.communicator = communicator or default_communicator()
        self.sample_rate = sample_rate
        self.steps_taken = 0
        """Calls of `step` so far; a resumed run sets it, so that sampling goes on as it would have."""
        self._seed = seed
        self._sgd = SGD(momentum, weight_decay)
        self._dtype = compute_dtype
        self._backpropagated: list[Backpropagated] = []
        self._lock = threading.Lock()  # autograd may run backward on a thread of its own
        first, last = class_range(num_classes, self.communicator.rank, self.communicator.world_size)
        weight = torch.empty(last - first, embedding_dim, device=device)
        fill_initial_centres(weight, first, seed, INITIAL_STD)
        bias = torch.zeros(last - first, device=device) if margin.has_bias else None
        self._shard = Shard(
            first, weight, torch.zeros_like(weight), bias, None if bias is None else torch.zeros_like(bias)
        )

    @property
    def class_range(self) -> tuple[int, int]:
        """(first, last) classes of this rank, first inclusive, last exclusive."""
        return self._shard.first, self._shard.last

    @property
    def local_weight(self) -> Tensor:
        """[last - first, dim] float32: this rank's class centres, readable and writable in place."""
        return self._shard.weight

    def __call__(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The mean loss over the labelled images of all ranks: a scalar, the same on every rank.

        embeddings: [batch, dim] float; batches may differ between ranks, 0 included.
        labels: [batch] int64, -1 = ignored.
        After `loss.backward()`, `embeddings.grad` is the gradient of that mean times the number of ranks,
        so that an engine which averages over ranks arrives at the true gradient.
        Raises LabelError for labels of a wrong type, shape or range, HeadInputError for wrong embeddings,
        CollectiveError when a rank does not come.
        """
        self._check(embeddings, labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            return cast(Tensor, _MarginLoss.apply(embeddings.float(), labels, self, torch.is_grad_enabled()))  # type: ignore[no-untyped-call]

    def step(self, lr: float) -> None:
        """Move this rank's centres along the gradient of all that was backpropagated since the last step.

        torch's SGD: v = momentum·v + g + weight_decay·w; w −= lr·v. Without any backward pass since the
        last step nothing moves, as with torch's optimisers when a parameter has no gradient.
        """
        with self._lock:
            passes, self._backpropagated = self._backpropagated, []
        self.steps_taken += 1
        if passes:
            with torch.no_grad():
                tiles.update(self._shard, self.margin, self._dtype, passes, lr, self._sgd)

    def sharded_state(self) -> dict[str, Tensor]:
        """This rank's state by name; row j of every tensor belongs to class `class_range[0] + j`."""
        return self._shard.tensors()

    def load_sharded_state(self, state: dict[str, Tensor]) -> None:
        """Copy a state of `sharded_state`'s form into this rank's. HeadInputError if it does not fit."""
        own = self._shard.tensors()
        if own.keys() != state.keys():
            raise HeadInputError(f"the head's state has {sorted(own)}, the one given has {sorted(state)}")
        for name, tensor in own.items():
            if tensor.shape != state[name].shape:
                expected, found = tuple(tensor.shape), tuple(state[name].shape)
                raise HeadInputError(f"the head's {name} is {expected}, the one given is {found}")
        for name, tensor in own.items():
            tensor.copy_(state[name])

    def _check(self, embeddings: Tensor, labels: Tensor) -> None:
        if embeddings.dim() != 2 or embeddings.shape[1] != self.embedding_dim:
            raise HeadInputError(
                f"embeddings must be [batch, {self.embedding_dim}], got {tuple(embeddings.shape)}"
            )
        if not embeddings.is_floating_point():
            raise HeadInputError(f"embeddings must be floating point, got {embeddings.dtype}")
        if labels.dtype != torch.int64:
            raise LabelError(f"labels must be int64, got {labels.dtype}")
        if labels.shape != embeddings.shape[:1]:
            expected, found = tuple(embeddings.shape[:1]), tuple(labels.shape)
            raise LabelError(f"labels must be {expected} beside these embeddings, got {found}")

    def _forward(self, embeddings: Tensor, labels: Tensor, backward_follows: bool) -> tuple[Tensor, _Forward]:
        gathered, all_labels, layout = gather_images(self.communicator, embeddings, labels)
        self._check_range(all_labels, layout)  # on every rank alike: nobody is left waiting for the others
        inputs, inverse = unit_rows(gathered) if self.margin.normalised else (gathered, None)
        batch = Batch.of(inputs, all_labels, self._shard)
        selected = sample_classes(self._shard, batch, self.sample_rate, self._seed, self.steps_taken)
        sums = tiles.negative_sums(self._shard, batch, self.margin, self._dtype, selected, backward_follows)
        centres, _ = tiles.centres_of(self._shard.weight[batch.rows], self.margin, torch.float32)
        targets = target_logits(self._shard, batch, self.margin, centres)

        target = sums.maximum.new_full(sums.maximum.shape, -torch.inf)
        target[batch.owned] = targets.logits
        negatives, target = merge_softmax(self.communicator, sums.maximum, sums.total, target)
        labelled = all_labels >= 0
        count = labelled.sum().clamp_min(1)
        # loss_i = log(1 + exp(N_i − t_i)): the margin is inside, and no digit is lost when it is tiny.
        surplus = torch.where(labelled, negatives - target, -torch.inf)
        loss = torch.nn.functional.softplus(surplus).sum() / count
        pull = torch.sigmoid(surplus) / count

        input_gradient = torch.zeros_like(inputs)
        if sums.weighted is not None:
            share = torch.where(pull > 0, pull * torch.exp(sums.maximum - negatives), 0.0)
            input_gradient = sums.weighted * (share * self.margin.scale)[:, None]
            pushes = (pull[batch.owned] * targets.slope)[:, None] * centres
            input_gradient.index_add_(0, batch.owned, pushes, alpha=-1)
        start = sum(layout.sizes[: self.communicator.rank])
        own = slice(start, start + embeddings.shape[0])
        return loss, _Forward(
            layout,
            batch,
            selected,
            targets.slope,
            negatives,
            pull,
            input_gradient,
            inputs[own],
            None if inverse is None else inverse[own],
        )

    def _backward(self, forward: _Forward, loss_gradient: Tensor) -> Tensor:
        gradient = scatter_gradient(self.communicator, forward.input_gradient, forward.layout)
        if forward.inverse is not None:
            gradient = project(gradient, forward.unit, forward.inverse)
        passed = Backpropagated(
            forward.batch,
            forward.negatives,
            forward.selected,
            forward.pull * loss_gradient,
            forward.slope,
        )
        with self._lock:
            self._backpropagated.append(passed)
        return gradient * (loss_gradient * self.communicator.world_size)

    def _check_range(self, labels: Tensor, layout: Layout) -> None:
        wrong = torch.nonzero((labels < -1) | (labels >= self.num_classes)).view(-1)
        if wrong.numel():
            place, rank = int(wrong[0]), 0
            while place >= layout.sizes[rank]:
                place, rank = place - layout.sizes[rank], rank + 1
            raise LabelError(
                f"rank {rank}: label {int(labels[wrong[0]])} of image {place} in its batch is no class: "
                f"expected 0 to {self.num_classes - 1}, or -1 for none"
            )


class _MarginLoss(torch.autograd.Function):
    """The head as one node of the backbone's graph, so that an engine sees a single backward."""

    @staticmethod
    def forward(
        ctx: Any, embeddings: Tensor, labels: Tensor, head: PartialFC, backward_follows: bool
    ) -> Tensor:
        loss, ctx.kept = head._forward(embeddings.detach(), labels, backward_follows)
        ctx.head = head
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.head._backward(ctx.kept, gradients[0]), None, None, None
