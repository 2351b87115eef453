from __future__ import annotations

import pytest
import torch
from torch import nn

from trainer.backbones import BACKBONES, make_backbone
from trainer.backbones.sphereface import SPHEREFACE_UNITS, Convolution


def parameters(name: str, image_size: tuple[int, int], embedding_dim: int = 512) -> float:
    network = make_backbone(name, embedding_dim, image_size, seed=0)
    return sum(weight.numel() for weight in network.parameters()) / 1e6


@pytest.mark.parametrize(
    ("name", "at_112x96", "at_112x112"),
    [
        ("sphereface4", 12.56, 14.40),
        ("sphereface10", 15.22, 17.05),
        ("sphereface20", 22.67, 24.51),
        ("sphereface36", 32.78, 34.61),
        ("sphereface64", 48.20, 50.04),
    ],
)
def test_sphereface_sizes(name: str, at_112x96: float, at_112x112: float) -> None:
    assert parameters(name, (112, 96)) == pytest.approx(at_112x96, abs=0.006)
    assert parameters(name, (112, 112)) == pytest.approx(at_112x112, abs=0.006)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("iresnet10-half", 3.33),
        ("iresnet14-half", 3.70),
        ("iresnet18", 24.03),
        ("iresnet34", 34.14),
        ("iresnet50", 43.59),
        ("iresnet100", 65.16),
    ],
)
def test_iresnet_sizes(name: str, millions: float) -> None:
    assert parameters(name, (112, 112)) == pytest.approx(millions, abs=0.006)


@pytest.mark.parametrize("name", SPHEREFACE_UNITS)
def test_a_sphereface_name_counts_convolutions(name: str) -> None:
    network = make_backbone(name, 8, (32, 32), seed=0)
    assert sum(isinstance(part, Convolution) for part in network.modules()) == int(name[10:])


@pytest.mark.parametrize("name", BACKBONES)
def test_any_size_goes_through(name: str) -> None:
    network = make_backbone(name, 24, (40, 33), seed=0).eval()
    embeddings = network(torch.zeros(2, 3, 40, 33))
    assert embeddings.shape == (2, 24)
    assert torch.isfinite(embeddings).all()


@pytest.mark.parametrize("name", BACKBONES)
def test_the_table_knows_which_have_batch_norm(name: str) -> None:
    parts = make_backbone(name, 16, (32, 32), seed=0).modules()
    found = any(isinstance(part, torch.nn.modules.batchnorm._BatchNorm) for part in parts)
    assert found == BACKBONES[name].has_batch_norm


def test_weights_come_from_the_seed_alone() -> None:
    first = make_backbone("iresnet18", 16, (32, 32), seed=5).state_dict()
    state = torch.get_rng_state()
    torch.rand(3)
    second = make_backbone("iresnet18", 16, (32, 32), seed=5).state_dict()
    other = make_backbone("iresnet18", 16, (32, 32), seed=6).state_dict()
    torch.set_rng_state(state)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])


def test_making_one_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    make_backbone("sphereface10", 16, (32, 32), seed=5)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", ["sphereface4", "sphereface20", "sphereface64", "iresnet18"])
def test_a_new_network_keeps_the_size_of_the_signal(name: str) -> None:
    network: nn.Module = make_backbone(name, 128, (64, 64), seed=0)
    spread = network(torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(1))).std()
    assert 0.3 < spread < 3
