"""PartialFC: the margin softmax over class centres that are sharded between ranks.

A step: gather everybody's embeddings and labels (exchange.py); this rank's sums over its centres (kernels)
and its targets' logits with the margin inside (targets.py), merged into the loss (loss.py); backward: the
gradient of the embeddings goes back to the ranks that own the images; step: the gradient of the centres goes
tile by tile into the optimiser (Wang et al., CVPR 2018, for the loss; An et al., CVPR 2022, for shards).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from partial_fc.arguments import (
    check_communicator,
    check_dtype,
    check_margin,
    check_optimiser,
    device_of,
)
from partial_fc.batch import Backpropagated, Shard
from partial_fc.communicator import Communicator, default_communicator
from partial_fc.errors import HeadInputError, number, require, whole_number
from partial_fc.exchange import Layout, gather_images, scatter_gradient
from partial_fc.initial import fill_initial_centres
from partial_fc.inputs import check_batch, check_classes
from partial_fc.kernels import make_kernels
from partial_fc.loss import Draw, Outcome, run_batch
from partial_fc.margins import Margin
from partial_fc.memory import bytes_per_number, require_room
from partial_fc.optim import SGD, Optimiser
from partial_fc.sharding import class_range

INITIAL_STD = 0.01


class PartialFC:
    """A margin softmax whose class centres are sharded over the ranks of a communicator.

    num_classes: classes of all ranks together; rank r owns `class_range`, ranges differ by one at most.
    embedding_dim: length of an embedding.
    margin: the loss; see margins/.
    sample_rate: the part of a rank's classes that a step computes with, the batch's own always among them;
        the others keep centre and momentum bit for bit. Drawn from (seed, steps_taken). A number, or a
        function of steps_taken.
    momentum, weight_decay: of the class centres (and Softmax's biases), as torch.optim.SGD's.
    optimiser: instead of these two: SGD(…) or AdamW(…) of partial_fc.optim.
    compute_dtype: what the matrix products are made in, torch.float32 or torch.bfloat16; sums, norms and
        centres are float32 either way.
    moment_dtype: what the optimiser's memory of each centre is kept in, one of the same two.
    wire_dtype: what embeddings and their gradients travel as, one of the same two.
    workspace_mib: what a step may take beyond centres, moments and a few buffers of [images of all ranks,
        dim]: tiles of some MiB at least, and its exponentials, which are made again where they do not fit.
    kernels: "auto", or a name of kernels/.
    communicator: how ranks meet; None takes torch.distributed if it is initialised, else one rank.
    seed: a class's first centre depends on (seed, class) alone.
    device: where this rank's centres live.
    Raises HeadInputError for arguments that cannot be used, and for centres that the device has no room for.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        margin: Margin,
        *,
        sample_rate: float | Callable[[int], float] = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        optimiser: Optimiser | None = None,
        compute_dtype: torch.dtype = torch.float32,
        moment_dtype: torch.dtype = torch.float32,
        wire_dtype: torch.dtype = torch.float32,
        workspace_mib: float = 512.0,
        kernels: str = "auto",
        communicator: Communicator | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        num_classes = whole_number("num_classes", "a whole number of at least 1", num_classes, 1)
        embedding_dim = whole_number("embedding_dim", "a whole number of at least 1", embedding_dim, 1)
        check_margin(margin)
        check_optimiser(optimiser)
        dtypes = {"compute_dtype": compute_dtype, "moment_dtype": moment_dtype, "wire_dtype": wire_dtype}
        for name, dtype in dtypes.items():
            check_dtype(name, dtype)
        workspace_mib = number("workspace_mib", "a number from 0", workspace_mib)
        require(0 <= workspace_mib < 2**40, "workspace_mib", "at least 0 and finite", workspace_mib)
        seed = whole_number("seed", "a whole number of 64 bits", seed, -(2**63), 2**63 - 1)
        check_communicator(communicator)
        device = device_of(device)
        if margin.has_bias and (
            margin.normalises_centres or margin.changes_negatives or margin.sub_centres > 1
        ):
            raise HeadInputError(
                f"{type(margin).__name__} has a bias: then it can neither normalise centres nor change "
                "negatives nor have sub-centres"
            )
        self.num_classes = num_classes
        self.embedding_dim = embedding_dim
        self.margin = margin
        self.communicator = communicator or default_communicator()
        self.sample_rate = sample_rate
        self.steps_taken = 0
        """Calls of `step` so far; a resumed run sets it, so that sampling goes on as it would have."""
        self.margin_state = margin.first_state()
        """What the margin remembers of the batches so far; a resumed run sets it too."""
        self._rate()  # a wrong one is refused now
        self._seed = seed
        self._optimiser = optimiser or SGD(momentum=momentum, weight_decay=weight_decay)
        self._wire = wire_dtype
        self._backpropagated: list[Backpropagated] = []
        self._lock = threading.Lock()  # autograd may run backward on a thread of its own
        self._shard = self._new_shard(moment_dtype, device)
        self._kernels = make_kernels(kernels, compute_dtype, int(workspace_mib * 2**20), device)

    @property
    def class_range(self) -> tuple[int, int]:
        """(first, last) classes of this rank, first inclusive, last exclusive."""
        return self._shard.first, self._shard.last

    @property
    def local_weight(self) -> Tensor:
        """[last - first, dim] float32: this rank's class centres, readable and writable in place.

        Write after a step and before the next batch: the gradient of a batch is that of its own centres.
        With K sub-centres a class [(last - first)·K, dim], those of a class one after the other.
        """
        return self._shard.weight

    @torch._disable_dynamo  # type: ignore[attr-defined]  # torch.compiler.disable without 2 s of imports
    def __call__(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The mean loss over the labelled images of all ranks: a scalar, the same on every rank.

        embeddings: [batch, dim] float; batches may differ between ranks, 0 included.
        labels: [batch] int64, -1 = ignored.
        After `loss.backward()`, `embeddings.grad` is the gradient of that mean times the number of ranks,
        so that an engine which averages over ranks arrives at the true gradient.
        Raises LabelError for labels of a wrong type, shape or range, HeadInputError for wrong embeddings and
        for ranks whose classes, dimensions or wire_dtype differ, on every rank at once; CollectiveError when
        a rank does not come.
        """
        check_batch(embeddings, labels, self.embedding_dim, self.communicator, self._shard.weight.device)
        if torch.is_grad_enabled() and not embeddings.requires_grad:
            embeddings = embeddings.clone().requires_grad_()  # a frozen backbone: the centres still learn
        with torch.autocast(embeddings.device.type, enabled=False):
            return cast(Tensor, _MarginLoss.apply(embeddings.float(), labels, self, torch.is_grad_enabled()))  # type: ignore[no-untyped-call]

    def step(self, lr: float, gradient_scale: float = 1.0) -> None:
        """Move this rank's centres along the gradient of all that was backpropagated since the last step.

        gradient_scale multiplies that gradient: 1/scale under a loss scaler, or the factor by which the
        backbone's gradient was clipped. Without any backward pass since the last step nothing moves, as
        with torch's optimisers when a parameter has no gradient. Raises HeadInputError, with nothing moved,
        if lr is no number from 0 on or gradient_scale none at all.
        """
        lr = number("lr", "a number of at least 0", lr)
        require(0 <= lr < math.inf, "lr", "a number of at least 0", lr)
        gradient_scale = number("gradient_scale", "a number", gradient_scale)
        with self._lock:
            passes, self._backpropagated = self._backpropagated, []
        self.steps_taken += 1
        if passes:
            with torch.no_grad():
                scale = self._shard.weight.new_tensor(gradient_scale)
                scaled = passes if gradient_scale == 1 else [one.scaled(scale) for one in passes]
                move = partial(self._optimiser.move, lr=lr, step=self.steps_taken)
                self._kernels.update(self._shard, scaled, move)

    def sharded_state(self) -> dict[str, Tensor]:
        """This rank's state by name; row j of every tensor belongs to class `class_range[0] + j`."""
        return self._shard.tensors()

    def load_sharded_state(self, state: dict[str, Tensor]) -> None:
        """Copy a state of `sharded_state`'s form into this rank's. HeadInputError if it does not fit."""
        self._shard.load(state)

    def __reduce__(self) -> NoReturn:
        raise HeadInputError("a head is neither copied nor pickled, it belongs to its rank; its state may be")

    def _new_shard(self, moment_dtype: torch.dtype, device: torch.device) -> Shard:
        first, last = class_range(self.num_classes, self.communicator.rank, self.communicator.world_size)
        per_class = self.margin.sub_centres
        rows = (last - first) * per_class
        needed = rows * self.embedding_dim * bytes_per_number(self._optimiser, moment_dtype)
        require_room(needed, self.num_classes, self.communicator, device)
        weight = torch.empty(rows, self.embedding_dim, dtype=torch.float32, device=device)
        fill_initial_centres(weight, first * per_class, self._seed, INITIAL_STD)
        moments = self._optimiser.first_moments(weight, moment_dtype)
        if not self.margin.has_bias:
            return Shard(first, weight, moments, per_class)
        bias = torch.zeros(last - first, dtype=torch.float32, device=device)
        bias_moments = self._optimiser.first_moments(bias, torch.float32)
        return Shard(first, weight, moments, per_class, bias, bias_moments)

    def _rate(self) -> float:
        rate = self.sample_rate(self.steps_taken) if callable(self.sample_rate) else self.sample_rate
        rate = number("sample_rate", "a number above 0 and at most 1", rate)
        require(0 < rate <= 1, "sample_rate", "above 0 and at most 1", rate)
        return rate

    def _forward(
        self, embeddings: Tensor, labels: Tensor, for_gradient: bool
    ) -> tuple[Tensor, Outcome | None, Layout]:
        gathered = gather_images(self.communicator, embeddings, labels, self._wire, self.num_classes)
        check_classes(gathered, self.num_classes)  # on every rank alike: nobody is left waiting
        loss, self.margin_state, outcome = run_batch(
            self._shard,
            self.margin,
            self._kernels,
            self.communicator,
            gathered,
            self.margin_state,
            Draw(self._seed, self.steps_taken, len(self._backpropagated)),
            self._rate() if for_gradient else None,  # the loss of an evaluation is over all classes
        )
        return loss, outcome, gathered.layout

    def _backward(self, outcome: Outcome, layout: Layout, loss_gradient: Tensor) -> Tensor:
        gradient = scatter_gradient(self.communicator, outcome.gradient, layout, self._wire)
        if outcome.own_gradient is not None:
            gradient = gradient + outcome.own_gradient
        with self._lock:
            self._backpropagated.append(outcome.passed.scaled(loss_gradient))
        return gradient * (loss_gradient * self.communicator.world_size)


class _MarginLoss(torch.autograd.Function):
    """The head as one node of the backbone's graph, so that an engine sees a single backward."""

    @staticmethod
    def forward(
        ctx: Any, embeddings: Tensor, labels: Tensor, head: PartialFC, backward_follows: bool
    ) -> Tensor:
        loss, *ctx.done = head._forward(embeddings.detach(), labels, backward_follows)
        ctx.head = head
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        # Taken, not shared: a loss that the caller still holds must not hold a step's memory.
        done, ctx.done = ctx.done, None
        if done is None:
            raise HeadInputError("backward was called twice on one loss of the head; make the loss again")
        return ctx.head._backward(*done, gradients[0]), None, None, None
