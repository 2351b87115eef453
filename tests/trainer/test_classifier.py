"""The head of a run as its settings say: the losses' own options, its optimiser, classes drawn to the end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from partial_fc import AdaFace, CombinedMargin, ElasticFace, LSoftmax, MagFace, Softmax
from tests.trainer.tiny import alone, arguments
from trainer.checkpoint import checkpoint_steps
from trainer.errors import TrainerInputError
from trainer.loss_options import make_loss
from trainer.settings import HeadConfig

OTHERS = {
    "combinedmargin": (("m1=1.1", "m2=0.4", "m3=0.15"), CombinedMargin(64.0, 1.1, 0.4, 0.15)),
    "elasticface": (("std=0.01", "on=cosine"), ElasticFace(64.0, std=0.01, on="cosine")),
    "adaface": (("h=0.5", "forgets=1"), AdaFace(64.0, h=0.5, forgets=1.0)),
    "magface": (("norm_high=90", "weight=20"), MagFace(64.0, norm_high=90.0, weight=20.0)),
    "lsoftmax": (("lambda_first=0", "lambda_least=0"), LSoftmax(lambda_first=0.0, lambda_least=0.0)),
    "softmax": (("bias=False",), Softmax(bias=False)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_options_reach_the_loss(name: str) -> None:
    options, expected = OTHERS[name]
    assert make_loss(HeadConfig(loss=name, options=options)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("loss", "option", "complaint"),
    [
        ("combinedmargin", "m4=1", "--head.options: expected NAME=VALUE, got 'm4=1'; combinedmargin has m1"),
        ("combinedmargin", "m1", "--head.options: expected NAME=VALUE, got 'm1'"),
        ("combinedmargin", "m1=one", "--head.options m1: expected a number, got 'one'"),
        ("softmax", "bias=yes", "--head.options bias: expected True or False, got 'yes'"),
        ("cosface", "margin=1", "--head.options: expected NAME=VALUE, got 'margin=1'; cosface has none"),
        ("elasticface", "std=-1", "--head.options: std must be"),
    ],
)  # fmt: skip
def test_other_options_are_refused(loss: str, option: str, complaint: str) -> None:
    with pytest.raises(TrainerInputError) as caught:
        make_loss(HeadConfig(loss=loss, options=(option,)))  # type: ignore[arg-type]
    assert complaint in str(caught.value)


@pytest.mark.dali
def test_the_last_steps_compute_with_all_classes(tmp_path: Path, data: Path) -> None:
    def centres(run: Path, step: int) -> torch.Tensor:
        (file,) = checkpoint_steps(run)[step].glob("head-*.safetensors")
        return load_file(file)["weight"]

    run = tmp_path / "run"
    more = ["--head.sample-rate", "0.1", "--head.full-steps", "2", "--checkpoint.every", "1"]
    alone(arguments(run, data, 2, *more, "--checkpoint.keep", "9", "--training.steps", "5"))
    moved = [int((centres(run, n) != centres(run, n + 1)).any(dim=1).sum()) for n in range(1, 5)]
    assert moved[:2] == [2, 2]
    assert moved[2:] == [21, 21]


@pytest.mark.dali
def test_centres_move_by_adamw_too(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    more = ["--head.optimizer", "adamw", "--head.lr-factor", "0.02"]
    alone(arguments(run, data, 16, *more, "--training.steps", "2"))
    (file,) = checkpoint_steps(run)[2].glob("head-*.safetensors")
    assert set(load_file(file)) == {"weight", "mean", "square"}
    with pytest.raises(TrainerInputError, match=r"head\.optimizer is adamw there and sgd here"):
        alone(arguments(run, data, 16, "--training.steps", "3"))
