from __future__ import annotations

from itertools import pairwise

import pytest

from trainer.schedule import OptimConfig, learning_rate


def rates(config: OptimConfig, total: int) -> list[float]:
    return [learning_rate(config, step, total) for step in range(total)]


def test_the_papers_schedule() -> None:
    config = OptimConfig(lr=0.1, warmup_steps=0)
    changes = {0: 0.1, 15_999: 0.1, 16_000: 0.01, 23_999: 0.01, 24_000: 0.001, 27_999: 0.001}
    for step, lr in changes.items():
        assert learning_rate(config, step, 28_000) == pytest.approx(lr)


def test_milestones_as_steps() -> None:
    config = OptimConfig(lr=1.0, milestones=(2, 0.5), decay=0.5, warmup_steps=0)
    assert rates(config, 8) == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25]


def test_cosine_with_warm_up() -> None:
    values = rates(OptimConfig(lr=1.0, schedule="cosine", warmup_steps=4, final_lr=0.1), 104)
    assert values[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert values[54] == pytest.approx(0.55)
    assert all(a >= b for a, b in pairwise(values[4:]))
    assert 0.1 < values[-1] < 0.102


def test_constant() -> None:
    assert set(rates(OptimConfig(lr=0.3, schedule="constant", warmup_steps=0), 10)) == {0.3}


def test_warm_up_longer_than_the_run() -> None:
    assert rates(OptimConfig(lr=1.0, schedule="cosine", warmup_steps=10), 2) == [0.1, 0.2]
