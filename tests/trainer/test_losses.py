"""Every auxiliary loss against its paper's formula, on one to three ranks."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from partial_fc.errors import HeadInputError, LabelError
from tests.ranks import run_ranks
from tests.trainer import loss_oracles
from trainer.errors import TrainerInputError
from trainer.losses import AuxiliaryConfig, AuxiliaryLoss, CenterLoss, make_auxiliary
from trainer.losses.choice import check_installed

CLASSES, DIM, STEPS = 7, 6, 3
BATCHES = ((6, 0, 5), (1, 1, 1))  # of up to three ranks: uneven ones, one without an image; no pair at all
needs_library = pytest.mark.metric_learning
PAIRS = [
    AuxiliaryConfig("contrastive"),
    AuxiliaryConfig("contrastive", margin=1.6, positive_margin=0.9),
    AuxiliaryConfig("contrastive", normalise=False),
    AuxiliaryConfig("triplet"),
    AuxiliaryConfig("triplet", mining="hard"),
    AuxiliaryConfig("triplet", mining="all", margin=1.0),
    AuxiliaryConfig("triplet", mining="semihard", margin=3.0, normalise=False),
]
CENTERS = [
    AuxiliaryConfig("center"),
    AuxiliaryConfig("center", rate=1.0),
    AuxiliaryConfig("center", normalise=True, rate=0.1),
]
EACH = [*(pytest.param(config, marks=needs_library) for config in PAIRS), *CENTERS]


@dataclass
class Steps:
    """What some steps on the same images came to on a rank."""

    losses: list[float]
    gradient: np.ndarray
    """Of the first step, this rank's images'."""
    centres: np.ndarray


def make_loss(config: AuxiliaryConfig) -> AuxiliaryLoss:
    loss = make_auxiliary(config, CLASSES, DIM, torch.device("cpu"))
    assert loss
    return loss


def make_batch(images: int) -> tuple[Tensor, Tensor]:
    """Images of which two look the same, and one is of an unknown person."""
    rng = np.random.default_rng(images)
    embeddings = torch.from_numpy(rng.normal(size=(images, DIM)).astype(np.float32)) * 0.7
    labels = torch.from_numpy(rng.integers(0, CLASSES - 2, images))
    if images > 4:
        embeddings[1] = embeddings[0]
        labels[2] = -1
    return embeddings, labels


def train(configs: list[AuxiliaryConfig]) -> list[list[Steps]]:
    """Steps of every loss and batch on this rank."""
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    return [
        [train_one(make_loss(config), sizes[:world_size], rank) for sizes in BATCHES] for config in configs
    ]


def train_one(loss: AuxiliaryLoss, sizes: tuple[int, ...], rank: int) -> Steps:
    own = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
    embeddings, labels = (part[own] for part in make_batch(sum(sizes)))
    embeddings.requires_grad_()
    losses = []
    for _ in range(STEPS):
        value = loss(embeddings, labels)
        (gradient,) = torch.autograd.grad(3 * value, embeddings)
        if not losses:
            first = gradient.numpy() / 3
        losses.append(value.item())
        loss.step()
    centres = loss.sharded_state().get("centre", torch.empty(0, DIM))
    return Steps(losses, first, centres.numpy())


def expected_steps(config: AuxiliaryConfig, images: int) -> Steps:
    embeddings, labels = make_batch(images)
    x = embeddings.double().requires_grad_()
    normalises = config.loss != "center" if config.normalise is None else config.normalise
    unit = x / x.norm(dim=1, keepdim=True) if normalises else x
    centres = torch.zeros(CLASSES, DIM, dtype=torch.float64)
    losses = []
    for _ in range(STEPS):
        if config.loss == "contrastive":
            loss = loss_oracles.contrastive(unit, labels, config.positive_margin or 0, config.margin or 1)
        elif config.loss == "triplet":
            loss = loss_oracles.triplet(unit, labels, config.margin or 0.2, config.mining or "semihard")
        else:
            loss = loss_oracles.center(unit, labels, centres)
            centres = loss_oracles.moved_centres(unit.detach(), labels, centres, config.rate or 0.5)
        losses.append(loss)
    gradient = torch.zeros_like(x)
    if losses[0].requires_grad:
        (gradient,) = torch.autograd.grad(losses[0], x)
    held = centres if config.loss == "center" else centres[:0]
    return Steps([loss.item() for loss in losses], gradient.numpy(), held.numpy())


@needs_library
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_loss_is_its_papers(world_size: int) -> None:
    configs = PAIRS + CENTERS
    by_rank = run_ranks(world_size, train, configs) if world_size > 1 else [train(configs)]
    for number, config in enumerate(configs):
        for case, sizes in enumerate(BATCHES):
            parts = [results[number][case] for results in by_rank]
            expected = expected_steps(config, sum(sizes[:world_size]))
            assert all(part.losses == parts[0].losses for part in parts), f"{config}: the same bits"
            np.testing.assert_allclose(parts[0].losses, expected.losses, rtol=1e-5, err_msg=str(config))
            gradient = np.concatenate([part.gradient for part in parts]) / world_size
            np.testing.assert_allclose(gradient, expected.gradient, 1e-4, 1e-6, err_msg=str(config))
            centres = np.concatenate([part.centres for part in parts])
            np.testing.assert_allclose(centres, expected.centres, 1e-5, 1e-7, err_msg=str(config))


@needs_library
@pytest.mark.parametrize("config", PAIRS)
def test_gradients_by_finite_differences(config: AuxiliaryConfig) -> None:
    from trainer.losses.pairs import PairLoss

    loss = make_loss(config)
    assert isinstance(loss, PairLoss)
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(9, DIM, dtype=torch.float64, generator=generator)
    images = (images / images.norm(dim=1, keepdim=True)).requires_grad_()
    labels = torch.arange(9) % 4
    assert loss.of_batch(images, labels) > 0
    assert torch.autograd.gradcheck(lambda x: loss.of_batch(x, labels), (images,))


@needs_library
@pytest.mark.parametrize("mining", ["semihard", "hard", "all"])
def test_the_triplet_loss_is_the_librarys(mining: str) -> None:
    from pytorch_metric_learning import distances, losses, miners

    from trainer.losses.triplet import TripletLoss, TripletMiner

    x, labels = make_batch(40)
    squared = distances.LpDistance(power=2)
    theirs = miners.TripletMarginMiner(margin=0.3, type_of_triplets=mining, distance=squared)
    ours = TripletMiner(margin=0.3, type_of_triplets=mining, distance=squared)
    labelled = labels >= 0
    kept = x.double()[labelled], labels[labelled]
    triplets = theirs(*kept)
    assert len(triplets[0]) > 20
    for found, expected in zip(ours(*kept), triplets, strict=True):
        assert torch.equal(found, expected)
    loss = losses.TripletMarginLoss(margin=0.3, distance=squared)(*kept, triplets)
    assert TripletLoss(0.3, mining)(x, labels).item() == pytest.approx(loss.item(), rel=1e-6)  # type: ignore[arg-type]


@needs_library
@pytest.mark.parametrize("labels", [[1, 1], [1, 2]])
def test_a_pairs_contrastive_loss_is_half_the_square_of_the_librarys(labels: list[int]) -> None:
    from pytorch_metric_learning.losses import ContrastiveLoss as Theirs

    from trainer.losses.contrastive import ContrastiveLoss

    x, of = torch.tensor([[1.0, 0.2], [0.9, -0.3]]), torch.tensor(labels)
    theirs = Theirs(pos_margin=0.1, neg_margin=1.2)(x, of).item()
    assert theirs > 0.1
    assert ContrastiveLoss(0.1, 1.2)(x, of).item() == pytest.approx(theirs**2 / 2, rel=1e-6)


@pytest.mark.parametrize("config", EACH)
def test_what_has_no_term_gives_0(config: AuxiliaryConfig) -> None:
    for images in (0, 1, 5):
        x = torch.randn(images, DIM, requires_grad=True)
        loss = make_loss(config)
        value = loss(x, torch.full((images,), -1))
        value.backward()
        loss.step()
        assert value.item() == 0
        assert x.grad is not None
        assert not x.grad.any()
    if config.loss != "center":
        one = torch.randn(1, DIM, requires_grad=True)
        assert make_loss(config)(one, torch.tensor([3])).item() == 0


@pytest.mark.parametrize("config", EACH)
def test_images_that_are_alike_or_nothing_make_no_nan(config: AuxiliaryConfig) -> None:
    x = torch.rand(1, DIM).repeat(40, 1)  # so many that distances are made by a matrix product
    x[30:] = 0
    x.requires_grad_()
    value = make_loss(config)(x, torch.arange(40) % 3)
    value.backward()
    assert value.isfinite()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("config", EACH)
def test_an_embedding_that_is_not_finite_shows_in_the_loss(config: AuxiliaryConfig, number: float) -> None:
    x, labels = make_batch(12)
    x[5, 0] = number
    assert not make_loss(config)(x, labels).isfinite()


def test_only_the_batchs_centres_move() -> None:
    loss = CenterLoss(50, DIM)
    before = loss.local_centres.normal_().clone()
    loss(torch.randn(4, DIM), torch.tensor([3, 3, 17, -1])).backward()  # a frozen backbone: no gradient there
    assert torch.equal(loss.local_centres, before), "before the step nothing moves"
    loss.step()
    moved = (loss.local_centres != before).any(dim=1).nonzero().view(-1)
    assert moved.tolist() == [3, 17]
    after = loss.local_centres.clone()
    with torch.no_grad():
        loss(torch.randn(4, DIM), torch.tensor([0, 1, 2, 3]))
    loss.step()
    assert torch.equal(loss.local_centres, after), "an evaluation moves nothing"


def test_centres_learn_behind_a_backbone_in_inference_mode_whatever_the_default_type() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        loss = CenterLoss(CLASSES, DIM, normalise=True)
        with torch.inference_mode():
            embeddings = torch.ones(2, DIM)
        loss(embeddings, torch.tensor([3, 3])).backward()
        loss.step()
    finally:
        torch.set_default_dtype(torch.float32)
    assert loss.local_centres.dtype == torch.float32
    # α·2/(1 + 2) of the way from 0 to both.
    torch.testing.assert_close(loss.local_centres[3], torch.full((DIM,), DIM**-0.5 / 3))


def test_batches_before_a_step_count_together() -> None:
    x, labels = make_batch(11)
    whole, halves = CenterLoss(CLASSES, DIM), CenterLoss(CLASSES, DIM)
    whole(x, labels).backward()
    for part in (slice(0, 4), slice(4, None)):
        halves(x[part], labels[part]).backward()
    whole.step()
    halves.step()
    torch.testing.assert_close(halves.local_centres, whole.local_centres)


def test_bad_batches_are_one_line() -> None:
    loss = CenterLoss(CLASSES, DIM)
    with pytest.raises(
        LabelError, match="rank 0: label 7 of image 1 in its batch is no class: expected 0 to 6"
    ):
        loss(torch.zeros(2, DIM), torch.tensor([0, 7]))
    with pytest.raises(LabelError, match=r"labels must be int64, got torch\.int32"):
        loss(torch.zeros(2, DIM), torch.tensor([0, 1], dtype=torch.int32))
    with pytest.raises(HeadInputError, match=r"embeddings must be \[batch, 6\], got \(2, 5\)"):
        loss(torch.zeros(2, 5), torch.tensor([0, 1]))
    with pytest.raises(HeadInputError, match="rate must be above 0 and at most 1, got 0"):
        CenterLoss(CLASSES, DIM, rate=0)


def test_a_missing_library_is_one_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    for loss in ("contrastive", "triplet"):
        with pytest.raises(TrainerInputError, match=r"pip install 'cosface\[metric\]'") as caught:
            check_installed(AuxiliaryConfig(loss=loss))  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    check_installed(AuxiliaryConfig(loss="center"))
