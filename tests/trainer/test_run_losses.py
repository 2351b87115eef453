"""Whole runs with an auxiliary loss: beside the head's and alone, resumed, resized, refused and failed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data_pipeline.loader.loader import Batch
from tests.ranks import run_ranks
from tests.trainer.tiny import CLASSES, alone, arguments, events, losses, train_rank
from trainer.checkpoint import checkpoint_steps
from trainer.config import load_config
from trainer.errors import TrainerInputError, TrainingFailed
from trainer.job import assembled
from trainer.ranks import Ranks

pytestmark = pytest.mark.dali

CENTER = ("--auxiliary.loss", "center", "--auxiliary.weight", "0.1")
CENTRES = "auxiliary_centre"


def steps(number: int) -> tuple[str, str]:
    return "--training.steps", str(number)


def centres(run: Path, step: int) -> torch.Tensor:
    files = sorted(checkpoint_steps(run)[step].glob("head-*.safetensors"))
    return torch.cat([load_file(file)[CENTRES] for file in files])


@pytest.mark.metric_learning
def test_triplet_loss_trains_alone_on_any_number_of_ranks(tmp_path: Path, data: Path) -> None:
    more = ["--head.loss", "none", "--auxiliary.loss", "triplet"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert alone(arguments(whole, data, 48, *more, *steps(8))) == "finished"
    assert sum(losses(whole)[-3:]) < 0.9 * sum(losses(whole)[:3])
    assert [event["auxiliary_loss"] for event in events(whole)] == losses(whole)
    assert json.loads((whole / "ranks.json").read_text())["ranks"] == [{"rank": 0, "classes": [0, 0]}]
    assert run_ranks(2, train_rank, arguments(parts, data, 24, *more, *steps(3))) == ["finished"] * 2
    alone(arguments(parts, data, 48, *more, *steps(6)))
    assert losses(parts) == pytest.approx(losses(whole)[:6], abs=1e-4)


@pytest.mark.metric_learning
def test_contrastive_loss_trains_beside_a_head(tmp_path: Path, data: Path) -> None:
    run, without = tmp_path / "run", tmp_path / "without"
    alone(arguments(run, data, 48, "--auxiliary.loss", "contrastive", "--auxiliary.weight", "5", *steps(8)))
    alone(arguments(without, data, 48, *steps(8)))
    assert all("auxiliary_loss" not in event for event in events(without))
    parts = [event["auxiliary_loss"] for event in events(run)]
    assert losses(run)[0] - parts[0] == pytest.approx(losses(without)[0], rel=1e-6)
    assert sum(parts[-3:]) < 0.9 * sum(parts[:3])


def test_center_loss_goes_on_to_the_same_bits_and_on_other_ranks(tmp_path: Path, data: Path) -> None:
    more = ["--head.loss", "softmax", *CENTER]
    whole, parts, resized = (tmp_path / name for name in ("whole", "parts", "resized"))
    alone(arguments(whole, data, 48, *more, *steps(6)))
    for number in (3, 6):
        alone(arguments(parts, data, 48, *more, *steps(number)))
    assert losses(parts) == losses(whole)
    assert torch.equal(centres(parts, 6), centres(whole, 6))
    for event in events(whole):
        assert 0 < event["auxiliary_loss"] < event["loss"]

    assert run_ranks(2, train_rank, arguments(resized, data, 24, *more, *steps(3))) == ["finished"] * 2
    assert len(list(checkpoint_steps(resized)[3].glob("head-*"))) == 2
    alone(arguments(resized, data, 48, *more, *steps(6)))
    assert losses(resized) == pytest.approx(losses(whole), abs=1e-4)
    assert centres(resized, 6).shape == (CLASSES, 32)
    torch.testing.assert_close(centres(resized, 6), centres(whole, 6), rtol=1e-3, atol=1e-5)


def test_another_auxiliary_loss_is_another_run_where_it_holds_something(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    alone(arguments(run, data, 16, *steps(1)))
    with pytest.raises(TrainerInputError, match=r"auxiliary\.loss is none there and center here"):
        alone(arguments(run, data, 16, *CENTER, *steps(2)))
    state = next(iter(checkpoint_steps(run).values())) / "state.json"
    older = json.loads(state.read_text())
    del older["model"]["auxiliary"]
    state.write_text(json.dumps(older))
    alone(arguments(run, data, 16, *steps(2)))
    assert len(losses(run)) == 2


@pytest.mark.metric_learning
def test_embeddings_that_are_no_numbers_stop_a_run_without_pairs_of_them(tmp_path: Path, data: Path) -> None:
    more = ["--head.loss", "none", "--auxiliary.loss", "triplet", "--optim.lr", "3e38"]
    with pytest.raises(TrainingFailed, match=r"^step \d: .*not finite"):
        alone(arguments(tmp_path / "run", data, 48, *more))


def test_centres_that_are_no_numbers_are_not_saved(tmp_path: Path, data: Path) -> None:
    config = load_config(arguments(tmp_path / "run", data, 16, "--head.loss", "none", *CENTER))
    with assembled(config, Ranks(), torch.device("cpu")) as job:
        job.objective.sharded_state()[CENTRES][3, 1] = torch.nan
        with pytest.raises(TrainingFailed, match=f"{CENTRES} is no longer finite and was not saved"):
            job.save()
        batch = Batch(torch.zeros(1, 3, 32, 32), torch.tensor([3]), np.array([0]), 1)
        with pytest.raises(TrainingFailed, match="class centres of rank 0 are not finite"):
            job.train_step(batch)
