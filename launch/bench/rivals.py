"""The classifiers that `cosface bench head` compares, behind one small interface: a step, and its own bytes.

Each has the same loss, CosFace, and the same update, SGD with momentum and weight decay, on one rank's shard.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from launch.errors import LaunchInputError
from partial_fc.kernels.precision import precision_for
from partial_fc.kernels.tiles import CPU_TILE, bytes_beside

SCALE, MARGIN = 64.0, 0.35
LR, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 5e-4


@dataclass(frozen=True)
class Case:
    """One row of the table: which classifier, how large."""

    rival: str
    classes: int
    embedding_dim: int = 512
    batch_size: int = 64
    ranks: int = 2
    dtype: str = "float32"
    sample_rate: float = 1.0
    workspace_mib: float = 512.0
    threads: int = 1
    of_ranks: int = 0
    """Not 0: one rank's work in a job of so many, the others standing in."""
    peer: str = ""

    @property
    def shared_by(self) -> int:
        """The ranks that share the classes."""
        return self.of_ranks or self.ranks

    @property
    def kept_bytes(self) -> int:
        """What the exponentials of a class and all gathered images take."""
        return self.batch_size * self.shared_by * (2 if self.dtype == "bfloat16" else 4)

    @property
    def keeps(self) -> bool:
        """Whether ours has room to keep them for the update, beside its threads' tiles."""
        rows = math.ceil(self.classes / self.shared_by * self.sample_rate)
        multiply = precision_for(getattr(torch, self.dtype), torch.device("cpu")).multiply
        images, dim = self.batch_size * self.shared_by, self.embedding_dim
        beside = bytes_beside(multiply, CPU_TILE[multiply], self.threads, rows, images, dim)
        return rows * self.kept_bytes + beside <= self.workspace_mib * 2**20

    @property
    def name(self) -> str:
        """The row's, without the number of classes."""
        rate = f", rate {self.sample_rate:g}" if self.sample_rate < 1 else ""
        return f"{self.rival} {self.dtype}{rate}{', made again' if not self.workspace_mib else ''}"


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


class Peer:
    """PartialFC_V2 of a user's own checkout of arcface_torch."""

    def __init__(self, case: Case, device: torch.device) -> None:
        folder = Path(case.peer)
        source = _module("partial_fc_v2", folder / "partial_fc_v2.py", device)
        losses = _module("losses", folder / "losses.py", device)
        bfloat16 = case.dtype == "bfloat16"
        self._head = source.PartialFC_V2(
            losses.CosFace(SCALE, MARGIN), case.embedding_dim, case.classes, case.sample_rate, False
        ).to(device)
        self._autocast = bfloat16
        self._device = device.type
        self._optimiser = _sgd(self._head.parameters())
        self.state_bytes = 2 * sum(p.numel() * p.element_size() for p in self._head.parameters())
        self.wire_bytes = 0

    def step(self, embeddings: Tensor, labels: Tensor) -> float:
        """See Rival."""
        # Its own switch to half precision is CUDA's: on other devices torch's autocast does the same.
        with torch.autocast(self._device, torch.bfloat16, enabled=self._autocast):
            loss = self._head(embeddings, labels.clone())
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        return float(loss.item())


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
        self._optimiser = _sgd([self._weight])
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
        self._optimiser = _sgd(self._loss.parameters())
        self.state_bytes = 2 * sum(p.numel() * p.element_size() for p in self._loss.parameters())
        self.wire_bytes = 0

    def step(self, embeddings: Tensor, labels: Tensor) -> float:
        """See Rival."""
        loss = self._loss(embeddings, labels)
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        return float(loss.item())


RIVALS: dict[str, type] = {
    "cosface": Ours,
    "arcface_torch": Peer,
    "loss_parallel": LossParallel,
    "metric-learning": DenseMetricLearning,
}


def _sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def _module(name: str, file: Path, device: torch.device) -> ModuleType:
    """A file of the user's own checkout as a module; without a GPU its calls of .cuda() are left out."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise LaunchInputError(
            f"--peer {file.parent}: {file.name} cannot be read: {error.strerror}"
        ) from None
    if device.type != "cuda":
        text = text.replace(".cuda()", "").replace(
            "torch.cuda.amp.autocast(", "torch.autocast('cpu', enabled="
        )
    spec = importlib.util.spec_from_loader(f"cosface_bench_{name}", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    exec(compile(text, str(file), "exec"), module.__dict__)
    return module
