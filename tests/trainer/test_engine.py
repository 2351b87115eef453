from __future__ import annotations

import math

import pytest
import torch

from tests.ranks import run_ranks, these_ranks
from trainer.backbones import make_backbone
from trainer.engines import make_engine
from trainer.engines.ddp import DdpEngine
from trainer.ranks import Ranks
from trainer.schedule import OptimConfig
from trainer.settings import TrainingConfig

SIZE = (16, 16)


def engine(ranks: Ranks, backbone: str = "sphereface4", **training: float) -> DdpEngine:
    made = make_engine(
        "ddp",
        make_backbone(backbone, 8, SIZE, seed=1),
        OptimConfig(lr=0.1),
        TrainingConfig(steps=1, **training),  # type: ignore[arg-type]
        SIZE,
        torch.device("cpu"),
        ranks,
    )
    assert isinstance(made, DdpEngine)
    return made


def images() -> torch.Tensor:
    return torch.randn(8, 3, *SIZE, generator=torch.Generator().manual_seed(2))


def two_steps(ranks: Ranks) -> dict[str, torch.Tensor]:
    made = engine(ranks)
    part = images().chunk(ranks.world_size)[ranks.rank]
    for _ in range(2):
        made.backward(made.forward(part).square().mean())
        made.step(0.1)
    return made.backbone_tensors() | made.optimizer_tensors()


def two_steps_on_a_rank() -> dict[str, list[float]]:
    ranks = these_ranks()
    return {name: value.flatten()[:50].tolist() for name, value in two_steps(ranks).items()}


def test_ranks_average_their_gradients() -> None:
    alone = two_steps(Ranks())
    for together in run_ranks(2, two_steps_on_a_rank):
        assert together.keys() == alone.keys()
        for name, values in together.items():
            assert values == pytest.approx(alone[name].flatten()[:50].tolist(), abs=1e-5)


def statistics_on_a_rank() -> list[float]:
    ranks = these_ranks()
    made = engine(ranks, "iresnet18")
    made.forward(images().chunk(2)[ranks.rank])
    with made.evaluating() as backbone:
        return backbone.state_dict()["embedding_norm.running_mean"].tolist()


def test_all_ranks_evaluate_with_the_first_ones_statistics() -> None:
    first, second = run_ranks(2, statistics_on_a_rank)
    assert first == second
    assert any(first)


def test_a_long_gradient_is_shortened() -> None:
    made = engine(Ranks(), clip_norm=1e-3)
    before = {name: value.clone() for name, value in made.backbone_tensors().items()}
    made.backward(made.forward(images()).sum() * 100)
    norm = made.step(1.0)
    assert norm is not None
    assert norm > 1
    moved = sum(((value - before[name]) ** 2).sum().item() for name, value in made.backbone_tensors().items())
    decayed = sum((5e-4 * value).square().sum().item() for value in before.values())
    assert math.sqrt(moved) <= 1e-3 + math.sqrt(decayed) + 1e-6


def test_biases_do_not_decay() -> None:
    made = engine(Ranks())
    before = {name: value.clone() for name, value in made.backbone_tensors().items()}
    made.backward(made.forward(images()).sum() * 0)
    made.step(0.1)
    after = made.backbone_tensors()
    name = "model.stages.0.0.{}"
    assert torch.equal(after[name.format("1.weight")], before[name.format("1.weight")])
    torch.testing.assert_close(
        after[name.format("0.weight")], before[name.format("0.weight")] * (1 - 0.1 * 5e-4)
    )


def test_the_running_average_is_what_is_evaluated() -> None:
    made = engine(Ranks(), average=0.75)
    start = made.backbone_tensors()["model.embedding.weight"].clone()
    made.backward(made.forward(images()).sum())
    made.step(0.1)
    now = made.backbone_tensors()["model.embedding.weight"].clone()
    with made.evaluating() as backbone:
        assert not backbone.training
        torch.testing.assert_close(backbone.state_dict()["embedding.weight"], 0.75 * start + 0.25 * now)
    assert backbone.training
    assert torch.equal(made.backbone_tensors()["model.embedding.weight"], now)


def test_state_goes_into_a_new_engine() -> None:
    made, other = engine(Ranks(), "iresnet18", average=0.5), engine(Ranks(), "iresnet18", average=0.5)
    for trained in (made,):
        trained.backward(trained.forward(images()).sum())
        trained.step(0.1)
    other.load(made.backbone_tensors(), made.optimizer_tensors())
    for each in (made, other):
        each.backward(each.forward(images()).sum())
        each.step(0.1)
    for name, value in (made.backbone_tensors() | made.optimizer_tensors()).items():
        assert torch.equal(value, (other.backbone_tensors() | other.optimizer_tensors())[name]), name
