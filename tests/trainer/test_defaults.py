"""The settings that nobody gives: what they come to, that the run says so, that it converges with them."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import numpy as np
import pytest

from data_pipeline import write_dataset
from data_pipeline.rendered.source import RenderedFaces
from tests.trainer.tiny import alone, losses
from trainer.check import check
from trainer.config import load_config
from trainer.errors import TrainerInputError
from trainer.recipe import RECIPE, settled, told
from trainer.schedule import OptimConfig, learning_rate

ROOT = Path(__file__).parents[2]
SCALE, MARGIN = 64.0, 0.35


def chance(classes: int) -> float:
    """The loss of cosines that are all the same: what an untrained network has at best."""
    return math.log(classes - 1 + math.exp(-SCALE * MARGIN)) + SCALE * MARGIN


@pytest.mark.parametrize(
    ("images", "steps", "lr", "warmup"),
    [
        (512, 28_000, 0.1, 1000),
        (8192, 1_000_000, 0.1, 1000),
        (128, 5000, 0.025, 500),
        (32, 38, 0.00625, 4),
        (1, 1, 0.1 / 512, 0),
    ],
)
def test_rate_and_warm_up_follow_the_run(images: int, steps: int, lr: float, warmup: int) -> None:
    found = settled(OptimConfig(), images, steps)
    assert (found.lr, found.warmup_steps) == (pytest.approx(lr), warmup)
    assert 0 < learning_rate(found, 0, steps) <= lr


def test_they_are_the_recipes_own() -> None:
    recipe = load_config(["--config", str(ROOT / RECIPE), "--run", "r", "--data.train", "d"])
    images, steps = 512, recipe.training.steps
    assert steps is not None
    assert settled(OptimConfig(milestones=recipe.optim.milestones), images, steps) == recipe.optim
    default = load_config(["--run", "r", "--data.train", "d", "--training.steps", "1"])
    assert default.training.clip_norm == recipe.training.clip_norm
    assert told(recipe, images, steps) is None or "--optim" not in str(told(recipe, images, steps))


def test_given_values_win() -> None:
    assert settled(OptimConfig(lr=3.0, warmup_steps=0), 32, 40) == OptimConfig(lr=3.0, warmup_steps=0)
    with pytest.raises(ValueError, match="not settled"):
        learning_rate(OptimConfig(), 0, 10)


def test_a_final_rate_above_the_rate_is_refused_before_the_start(tmp_path: Path) -> None:
    argv = ["--run", str(tmp_path), "--data.train", "rendered:8x2,quick,size=16", "--training.steps", "1"]
    config = load_config([*argv, "--data.batch-size", "8", "--optim.final-lr", "0.05"])
    with pytest.raises(
        TrainerInputError, match=r"^--optim.final-lr must be between 0 and lr \(0.0015625\), got"
    ):
        check(config, world_size=1)


@pytest.mark.timeout(1200)  # seconds alone, minutes on a busy machine
def test_a_run_with_defaults_converges_and_says_which_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The loss went from 32 to 79 in five steps, where chance is 28, with the defaults that there were."""
    run, steps = tmp_path / "run", 60
    set_ = ["--data.train", "rendered:300x10,quick,size=24", "--data.batch-size", "32"]
    alone(["--run", str(run), *set_, "--training.steps", str(steps), "--checkpoint.every", "0"])
    found = losses(run)
    assert len(found) == steps
    assert max(found) < found[0] + 5
    assert sum(found[-10:]) / 10 < chance(300)
    said = " ".join(capsys.readouterr().out.split())
    assert (
        f"by default, after {RECIPE}: --optim.lr 0.00625 (0.1 for 512 images a step, here 32), "
        "--optim.warmup-steps 6 (1000, at most a tenth of the run), --training.clip-norm 5" in said
    )
    stated = tomllib.loads((run / "run.toml").read_text())
    assert (stated["optim"]["lr"], stated["optim"]["warmup-steps"]) == (0.00625, 6)


@pytest.mark.timeout(1200)  # seconds alone, minutes on a busy machine
def test_so_does_one_with_300_000_identities(tmp_path: Path) -> None:
    """Of whom a few hundred are seen, for a test of seconds; the head and its loss are the whole."""
    faces = RenderedFaces(300, 10, seed=0, size=24, style="quick")
    labels = np.sort(np.random.default_rng(0).choice(300_000, 300, replace=False)).tolist()
    images = ((labels[k // 10], bytes(faces.payloads(np.array([k]))[0])) for k in range(3000))
    write_dataset(tmp_path / "set", images, 300_000, (24, 24))
    run, steps = tmp_path / "run", 40
    words = ["--data.batch-size", "32", "--model.embedding-dim", "64", "--checkpoint.every", "0"]
    words += ["--data.train", str(tmp_path / "set"), "--training.steps", str(steps)]
    alone(["--run", str(run), *words])
    found = losses(run)
    assert max(found) < found[0] + 5
    assert sum(found[-10:]) / 10 < chance(300_000)
