"""What a head is made of: anything of a wrong type is refused in one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from partial_fc import SGD, AdamW, CosFace, PartialFC, make_margin
from partial_fc.communicator import SingleRank
from partial_fc.errors import HeadInputError

CLASSES, DIM = 10, 4
COUNT = "a whole number of at least 1"
MARGIN = r"margin must be a margin such as CosFace\(64\.0, 0\.35\), got "
COSFACE = CosFace(16.0, 0.2)

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "classes as text": ({"num_classes": "10"}, f"num_classes must be {COUNT}, got the text '10'"),
    "classes as float": ({"num_classes": 10.0}, f"num_classes must be {COUNT}, got 10.0"),
    "classes as bool": ({"num_classes": True}, f"num_classes must be {COUNT}, got True"),
    "classes as type": ({"num_classes": int}, f"num_classes must be {COUNT}, got the class int"),
    "no classes": ({"num_classes": None}, f"num_classes must be {COUNT}, got None"),
    "0 classes": ({"num_classes": 0}, f"num_classes must be {COUNT}, got 0"),
    "a list of classes": ({"num_classes": [10]}, f"num_classes must be {COUNT}, got a list"),
    "dim as text": ({"embedding_dim": "4"}, f"embedding_dim must be {COUNT}, got the text '4'"),
    "dim as float": ({"embedding_dim": 4.0}, f"embedding_dim must be {COUNT}, got 4.0"),
    "dim below 1": ({"embedding_dim": -1}, f"embedding_dim must be {COUNT}, got -1"),
    "margin as text": (
        {"margin": "CosFace"},
        MARGIN + r"the text 'CosFace', of which make_margin\('cosface'\) makes one",
    ),
    "margin as unknown text": ({"margin": "x"}, MARGIN + "the text 'x'$"),
    "margin as class": ({"margin": CosFace}, MARGIN + r"the class CosFace, of which CosFace\(\) makes one"),
    "margin as number": ({"margin": 0.35}, MARGIN + "0.35"),
    "margin as tuple": ({"margin": (1.0, 0.0, 0.4)}, MARGIN + "a tuple"),
    "no margin": ({"margin": None}, MARGIN + "None"),
    "rate as text": ({"sample_rate": "0.1"}, "sample_rate must be a number above 0 .*, got the text '0.1'"),
    "a rate that gives text": (
        {"sample_rate": str},
        "sample_rate must be a number above 0 .*, got the text '0'",
    ),
    "rate above 1": ({"sample_rate": 1.5}, "sample_rate must be above 0 and at most 1, got 1.5"),
    "no rate": ({"sample_rate": None}, "sample_rate must be a number above 0 .*, got None"),
    "rates": ({"sample_rate": torch.ones(2)}, "sample_rate must be a number above 0 .*, got a Tensor"),
    "momentum as text": ({"momentum": "0.9"}, "momentum must be a number, got the text '0.9'"),
    "decay as text": ({"weight_decay": "x"}, "weight_decay must be a number, got the text 'x'"),
    "no decay": ({"weight_decay": None}, "weight_decay must be a number, got None"),
    "optimiser as class": ({"optimiser": AdamW}, r"optimiser must be SGD\(…\), .*, got the class AdamW"),
    "optimiser as text": ({"optimiser": "sgd"}, r"optimiser must be SGD\(…\), .*, got the text 'sgd'"),
    "optimiser of torch": (
        {"optimiser": torch.optim.SGD([torch.zeros(1)], 0.1)},
        r"optimiser must be SGD\(…\), .*, got a SGD",
    ),
    "type as text": (
        {"compute_dtype": "float32"},
        r"compute_dtype must be torch\.float32 or torch\.bfloat16, got the text 'float32'",
    ),
    "another type": ({"moment_dtype": torch.float16}, r"moment_dtype must be .*, got torch\.float16"),
    "numpy's type": ({"wire_dtype": np.float32}, r"wire_dtype must be .*, got the class float32"),
    "workspace as text": (
        {"workspace_mib": "64"},
        "workspace_mib must be a number from 0, got the text '64'",
    ),
    "workspace below 0": ({"workspace_mib": -1}, "workspace_mib must be at least 0 and finite, got -1"),
    "kernels as class": ({"kernels": int}, "kernels must be one of auto, .*, got <class 'int'>"),
    "seed as text": ({"seed": "0"}, "seed must be a whole number of 64 bits, got the text '0'"),
    "seed beyond": ({"seed": 2**63}, f"seed must be a whole number of 64 bits, got {2**63}"),
    "no seed": ({"seed": None}, "seed must be a whole number of 64 bits, got None"),
    "communicator as class": (
        {"communicator": SingleRank},
        "communicator must be .*, got the class SingleRank",
    ),
    "communicator as text": ({"communicator": "gloo"}, "communicator must be .*, got the text 'gloo'"),
    "no such device": ({"device": "gpu"}, "device must be a device of torch such as .*, got the text 'gpu'"),
    "device as list": ({"device": ["cpu"]}, "device must be a device of torch such as .*, got a list"),
    "no such CUDA device": ({"device": "cuda:99"}, "device must be .*, got cuda:99"),
}


@pytest.mark.parametrize("case", list(WRONG))
def test_what_is_wrong_is_told_in_one_sentence(case: str) -> None:
    wrong, message = WRONG[case]
    arguments: dict[str, Any] = {"num_classes": CLASSES, "embedding_dim": DIM, "margin": COSFACE, **wrong}
    with pytest.raises(HeadInputError, match=message) as caught:
        PartialFC(**arguments)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_rate_that_becomes_wrong_is_told_at_its_step() -> None:
    head = PartialFC(CLASSES, DIM, COSFACE, sample_rate=lambda step: "x" if step else 1.0)  # type: ignore[arg-type,return-value]
    head(torch.randn(2, DIM), torch.tensor([0, 1])).backward()
    head.step(0.1)
    with pytest.raises(HeadInputError, match="sample_rate must be a number above 0"):
        head(torch.randn(2, DIM), torch.tensor([0, 1]))


def test_numbers_of_numpy_and_torch_are_numbers() -> None:
    plain = PartialFC(CLASSES, DIM, COSFACE, optimiser=SGD(momentum=0.5), sample_rate=0.5, seed=3)
    other = PartialFC(
        np.int64(CLASSES),  # type: ignore[arg-type]
        torch.tensor(DIM),  # type: ignore[arg-type]
        COSFACE,
        momentum=np.float32(0.5),  # type: ignore[arg-type]
        sample_rate=torch.tensor(0.5),  # type: ignore[arg-type]
        workspace_mib=np.float64(512),
        seed=np.uint8(3),  # type: ignore[arg-type]
        device=torch.device("cpu"),
    )
    assert torch.equal(plain.local_weight, other.local_weight)
    assert type(other.num_classes) is int


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"betas": "a"}, r"betas must be two numbers in \[0, 1\), got the text 'a'"),
        ({"betas": (0.9,)}, r"betas must be two numbers in \[0, 1\), got a tuple"),
        ({"betas": (0.9, None)}, r"betas must be two numbers in \[0, 1\), got None"),
        ({"betas": (0.9, 1.0)}, r"betas must be in \[0, 1\), got \(0.9, 1.0\)"),
        ({"epsilon": "1e-8"}, "epsilon must be a number, got the text '1e-8'"),
    ],
)
def test_adamw_refuses_what_is_no_number(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(HeadInputError, match=complaint):
        AdamW(**wrong)


@pytest.mark.parametrize("name", [3, None, CosFace, ["cosface"]])
def test_a_loss_is_asked_for_by_its_name(name: Any) -> None:
    with pytest.raises(HeadInputError, match="a loss's name is expected, such as 'cosface', got"):
        make_margin(name)
