"""The classifiers that `cosface bench head` compares, behind one small interface: a step, and its own bytes.

Each has the same loss, CosFace, and the same update, SGD with momentum and weight decay, on one rank's shard.
A benchmark outside this package may put a rival of its own into RIVALS, in each rank's process too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from launch.bench.row import Case
from launch.errors import LaunchInputError

SCALE, MARGIN = 64.0, 0.35
LR, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 5e-4


class Rival(Protocol):
    """A classifier on one rank."""

    state_bytes: int
    """Of centres and momentum on this rank."""
    wire_bytes: int
    """Sent by this rank in the last step; 0 where it is not counted."""

    def step(self, embeddings: Tensor, labels: Tensor) -> float:
        """Forward, backward and update; returns the loss. embeddings.grad is set."""
        ...


class Ours:
    """partial_fc's head."""

    def __init__(self, case: Case, device: torch.device) -> None:
        from partial_fc import CosFace, PartialFC
        from partial_fc.communicator import Counting, StandIn, default_communicator

        inner = StandIn(case.of_ranks) if case.of_ranks else default_communicator()
        self._wire = Counting(inner)
        self._head = PartialFC(
            case.classes,
            case.embedding_dim,
            CosFace(SCALE, MARGIN),
            sample_rate=case.sample_rate,
            momentum=MOMENTUM,
            weight_decay=WEIGHT_DECAY,
            compute_dtype=getattr(torch, case.dtype),
            workspace_mib=case.workspace_mib,
            communicator=self._wire,
            device=device,
        )
        self.state_bytes = sum(t.numel() * t.element_size() for t in self._head.sharded_state().values())
        self.wire_bytes = 0

    def step(self, embeddings: Tensor, labels: Tensor) -> float:
        """See Rival."""
        self._wire.sent_bytes = 0
        loss = self._head(embeddings, labels)
        torch.autograd.backward(loss)
        self._head.step(LR)
        self.wire_bytes = self._wire.sent_bytes
        return loss.item()


class LossParallel:
    """torch.distributed.tensor.parallel.loss_parallel over a class-sharded weight."""

    def __init__(self, case: Case, device: torch.device) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor import DTensor, Shard

        world_size = dist.get_world_size()
        if case.classes % world_size:
            raise LaunchInputError(f"loss_parallel wants classes that {world_size} ranks share evenly")
        self._mesh = init_device_mesh(device.type, (world_size,))
        local = torch.randn(case.classes // world_size, case.embedding_dim, device=device) * 0.01
        self._weight = DTensor.from_local(local, self._mesh, [Shard(0)]).requires_grad_()
        self._optimiser = sgd([self._weight])
        self._autocast = case.dtype == "bfloat16"
        self.state_bytes = 2 * local.numel() * local.element_size()
        self.wire_bytes = 0

    def step(self, embeddings: Tensor, labels: Tensor) -> float:
        """See Rival."""
        from torch.distributed.tensor import DTensor, Replicate, Shard
        from torch.distributed.tensor.parallel import loss_parallel
        from torch.nn import functional

        ranks = dist.get_world_size()
        local = DTensor.from_local(embeddings, self._mesh, [Shard(0)])
        x: Any = functional.normalize(local.redistribute(placements=[Replicate()]))
        y = DTensor.from_local(labels, self._mesh, [Shard(0)]).redistribute(placements=[Replicate()])
        with torch.autocast(embeddings.device.type, torch.bfloat16, enabled=self._autocast):
            w: Any = functional.normalize(self._weight)
            cosines = (x @ w.T).float()
        first = dist.get_rank() * (self._weight.shape[0] // ranks)
        mine = y.to_local() - first
        inside = (mine >= 0) & (mine < self._weight.shape[0] // ranks)
        margins = torch.zeros_like(cosines.to_local())
        margins[inside.nonzero().view(-1), mine[inside]] = MARGIN
        logits = SCALE * (cosines - DTensor.from_local(margins, self._mesh, [Shard(1)]))
        with loss_parallel():
            loss: Any = functional.cross_entropy(logits, y)
            self._optimiser.zero_grad()
            torch.autograd.backward(loss)
        self._optimiser.step()
        return float(loss.full_tensor().item())


class DenseMetricLearning:
    """pytorch-metric-learning's CosFaceLoss: all classes on one rank."""

    def __init__(self, case: Case, device: torch.device) -> None:
        try:
            from pytorch_metric_learning.losses import CosFaceLoss
        except ImportError:
            raise LaunchInputError("pytorch-metric-learning is not installed (pip install it)") from None
        self._loss = CosFaceLoss(case.classes, case.embedding_dim, margin=MARGIN, scale=SCALE).to(device)
        self._optimiser = sgd(self._loss.parameters())
        self.state_bytes = 2 * sum(p.numel() * p.element_size() for p in self._loss.parameters())
        self.wire_bytes = 0

    def step(self, embeddings: Tensor, labels: Tensor) -> float:
        """See Rival."""
        loss = self._loss(embeddings, labels)
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        return float(loss.item())


RIVALS: dict[str, Callable[[Case, torch.device], Rival]] = {
    "cosface": Ours,
    "loss_parallel": LossParallel,
    "metric-learning": DenseMetricLearning,
}


def sgd(parameters: Any) -> torch.optim.Optimizer:
    """The update that all of them have."""
    return torch.optim.SGD(parameters, lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
