"""Two heads in one job: a backbone with two data sets, over one process group, two, or parts of one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from partial_fc import ArcFace, CosFace, PartialFC
from partial_fc.communicator import TorchDistributed
from tests.ranks import run_ranks

PIXELS, DIM, IMAGES, STEPS = 12, 8, 8, 3
MARGINS = CosFace(16.0, 0.2), ArcFace(8.0, 0.2)
CLASSES = 30, 11
MEMBERS = (0, 1), (1, 2)
"""The ranks of each head where they are not all: rank 1 has a part of both."""


def batch(step: int, number: int, rank: int, ranks: int) -> tuple[Tensor, Tensor]:
    """A rank's share of the images of data set `number`."""
    generator = torch.Generator().manual_seed(2 * step + number)
    x = torch.randn(IMAGES, PIXELS, generator=generator)
    y = torch.randint(0, CLASSES[number], (IMAGES,), generator=generator)
    return x.chunk(ranks)[rank], y.chunk(ranks)[rank]


def train(two_groups: bool = False, one_backward: bool = True) -> np.ndarray:
    """Both losses of every step, then the backbone's parameters after the last."""
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    heads = [
        PartialFC(
            classes, DIM, margin, communicator=TorchDistributed(dist.new_group()) if two_groups else None
        )
        for margin, classes in zip(MARGINS, CLASSES, strict=True)
    ]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(PIXELS, 16), nn.PReLU(), nn.Linear(16, DIM))
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    printed = []
    for step in range(STEPS):
        optimiser.zero_grad()
        losses = []
        for number, head in enumerate(heads):
            x, y = batch(step, number, rank, ranks)
            losses.append(head(model(x), y))
            if not one_backward:
                losses[-1].backward()
        if one_backward:
            (losses[0] + losses[1]).backward()
        if ranks > 1:  # as an engine averages
            for parameter in model.parameters():
                dist.all_reduce(parameter.grad)
                parameter.grad /= ranks
        optimiser.step()
        for head in heads:
            head.step(0.1)
        printed += [loss.item() for loss in losses]
    return np.array(printed + torch.cat([one.detach().view(-1) for one in model.parameters()]).tolist())


def train_every_way() -> list[np.ndarray]:
    return [train(*way) for way in itertools.product((False, True), repeat=2)]


def test_one_backbone_with_two_heads_trains_on_two_ranks_as_on_one() -> None:
    expected = train()
    for found in itertools.chain(*run_ranks(2, train_every_way)):
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


def train_on_parts() -> list[tuple[list[float], np.ndarray] | None]:
    """By head: its losses and this rank's centres, None where it has no part."""
    rank = dist.get_rank()
    groups = [dist.new_group(list(members)) for members in MEMBERS]  # every rank makes them all
    mine = [number for number, members in enumerate(MEMBERS) if rank in members]
    heads = {
        number: PartialFC(
            CLASSES[number], DIM, MARGINS[number], communicator=TorchDistributed(groups[number])
        )
        for number in mine
    }
    printed: dict[int, list[float]] = {number: [] for number in mine}
    for step in range(STEPS):
        losses = []
        for number, head in heads.items():
            x, y = batch(step, number, MEMBERS[number].index(rank), len(MEMBERS[number]))
            losses.append(head(x[:, :DIM], y))
            printed[number].append(losses[-1].item())
        torch.stack(losses).sum().backward()
        for head in heads.values():
            head.step(0.1)
    return [
        (printed[number], heads[number].local_weight.numpy()) if number in mine else None
        for number in range(2)
    ]


def test_heads_on_overlapping_parts_of_the_ranks() -> None:
    by_rank = run_ranks(3, train_on_parts)
    for number, members in enumerate(MEMBERS):
        head, losses = PartialFC(CLASSES[number], DIM, MARGINS[number]), []
        for step in range(STEPS):
            x, y = batch(step, number, 0, 1)
            loss = head(x[:, :DIM], y)
            loss.backward()
            head.step(0.1)
            losses.append(loss.item())
        parts = [by_rank[rank][number] for rank in members]
        assert all(part[0] == pytest.approx(losses, rel=1e-5) for part in parts)
        found = np.concatenate([part[1] for part in parts])
        assert found == pytest.approx(head.local_weight.numpy(), rel=1e-4, abs=1e-6)
        assert {rank for rank in range(3) if by_rank[rank][number] is None} == {0, 1, 2} - set(members)
