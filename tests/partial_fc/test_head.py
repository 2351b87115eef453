"""The sharded head against the dense float64 oracle, on 1, 2 and 3 ranks."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
import torch

from partial_fc import CosFace, NormalizedSoftmax, PartialFC, Softmax, make_margin
from partial_fc.errors import HeadInputError, LabelError
from tests.partial_fc.oracle import dense_step
from tests.ranks import run_ranks

MARGINS = [CosFace(64.0, 0.35), CosFace(1000.0, 0.4), CosFace(1.0, 0.1), NormalizedSoftmax(30.0), Softmax()]
# (classes, dim, local batch of each of up to three ranks): uneven shards and batches, a rank with no
# image, a rank with no class, several tiles, one class.
SHAPES = [(17, 8, (5, 3, 6)), (2, 4, (2, 0, 3)), (2500, 16, (4, 4, 4)), (1, 3, (2, 1, 1))]


def make_case(shape, world_size, labels_from=0):
    classes, dim, batches = shape
    rng = np.random.default_rng(classes + world_size)
    batches = batches[:world_size]
    total = sum(batches)
    embeddings = rng.normal(size=(total, dim)).astype(np.float32)
    labels = rng.integers(labels_from, classes, size=total)
    labels[0] = -1 if total > 1 else labels[0]
    weight = (rng.normal(size=(classes, dim)) * 0.1).astype(np.float32)
    bias = rng.normal(size=classes).astype(np.float32) * 0.1
    return embeddings, labels, weight, bias, batches


def train(cases, dtype_name="float32", steps=3):
    """Every case on this rank: loss, own embedding gradient, own weight and bias after `steps` steps."""
    import torch.distributed as dist

    rank = dist.get_rank() if dist.is_initialized() else 0
    results = []
    for margin, (embeddings, labels, weight, bias, batches) in cases:
        head = PartialFC(weight.shape[0], weight.shape[1], margin, compute_dtype=getattr(torch, dtype_name))
        first, last = head.class_range
        head.local_weight.copy_(torch.from_numpy(weight[first:last]))
        if margin.has_bias:
            head.sharded_state()["bias"].copy_(torch.from_numpy(bias[first:last]))
        own = slice(sum(batches[:rank]), sum(batches[: rank + 1]))
        x = torch.from_numpy(embeddings[own]).requires_grad_()
        y = torch.from_numpy(labels[own])
        for step in range(steps):
            x.grad = None
            loss = head(x, y)
            loss.backward()
            if step == 0:
                kept = float(loss.detach()), x.grad.numpy().copy()
            head.step(0.1)
        state = head.sharded_state()
        results.append(
            (
                *kept,
                head.class_range,
                state["weight"].numpy(),
                state["bias"].numpy() if margin.has_bias else None,
            )
        )
    return results


def relative(found, expected):
    return np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-6)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_loss_gradients_and_updates_are_the_oracles(world_size):
    cases = [(margin, make_case(shape, world_size)) for margin in MARGINS for shape in SHAPES]
    by_rank = run_ranks(world_size, train, cases) if world_size > 1 else [train(cases)]
    for number, (margin, (embeddings, labels, weight, bias, _)) in enumerate(cases):
        parts = [results[number] for results in by_rank]
        loss, gradient, after, bias_after = dense_step(
            embeddings, labels, weight, bias if margin.has_bias else None, margin, steps=3
        )
        losses = {part[0] for part in parts}
        assert len(losses) == 1, "every rank has the same loss, to the bit"
        assert losses.pop() == pytest.approx(loss, rel=1e-5, abs=1e-7)
        assert relative(np.concatenate([part[1] for part in parts]) / world_size, gradient) < 1e-4
        ranges = [part[2] for part in parts]
        bounds = [0, *(last for _, last in ranges)]
        assert ranges == list(itertools.pairwise(bounds))
        assert bounds[-1] == len(weight)
        assert relative(np.concatenate([part[3] for part in parts]), after) < 1e-4
        if margin.has_bias:
            assert relative(np.concatenate([part[4] for part in parts]), bias_after) < 1e-4


def test_bfloat16_stays_close_to_the_oracle():
    margin = CosFace(64.0, 0.35)
    case = make_case((500, 128, (32,)), 1)
    ((loss, gradient, _, after, _),) = train([(margin, case)], "bfloat16", steps=1)
    embeddings, labels, weight, _, _ = case
    expected_loss, expected, expected_after, _ = dense_step(embeddings, labels, weight, None, margin)
    assert loss == pytest.approx(expected_loss, rel=2e-3)
    cosine = (gradient * expected).sum() / np.linalg.norm(gradient) / np.linalg.norm(expected)
    assert cosine > 0.999
    assert relative(after - weight, expected_after - weight) < 0.05


def test_the_margin_is_inside_the_sum_when_everything_is_saturated():
    # 20,000 random centres, s = 64, a target cosine of 1: the loss is 0 in float32 unless the target's
    # term is kept apart; in float64 it is a definite small number.
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(20_000, 64)).astype(np.float32)
    embeddings = weight[:4].copy()
    labels = np.arange(4)
    expected, expected_gradient, _, _ = dense_step(embeddings, labels, weight, None, CosFace(64.0, 0.1))
    assert 0 < expected < 1e-6
    head = PartialFC(20_000, 64, CosFace(64.0, 0.1))
    head.local_weight.copy_(torch.from_numpy(weight))
    x = torch.from_numpy(embeddings).requires_grad_()
    loss = head(x, torch.from_numpy(labels))
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert relative(x.grad.numpy(), expected_gradient) < 1e-3


def test_accumulated_and_scaled_losses_add_up():
    embeddings, labels, weight, _, _ = make_case((40, 8, (12,)), 1, labels_from=0)
    labels = np.abs(labels)
    whole, parts = (PartialFC(40, 8, CosFace(16.0, 0.2)) for _ in range(2))
    for head in (whole, parts):
        head.local_weight.copy_(torch.from_numpy(weight))
    x, y = torch.from_numpy(embeddings).requires_grad_(), torch.from_numpy(labels)
    whole(x, y).backward()
    whole.step(0.1)
    for half in (slice(0, 6), slice(6, 12)):
        (parts(x[half], y[half]) * 0.5).backward()
    parts.step(0.1)
    torch.testing.assert_close(parts.local_weight, whole.local_weight, rtol=1e-5, atol=1e-6)
    before = parts.local_weight.clone()
    parts.step(0.1)
    assert torch.equal(before, parts.local_weight), "no backward pass, no movement"


@pytest.mark.parametrize("scale", [1.0, 64.0, 1000.0])
def test_extreme_inputs_stay_finite(scale):
    head = PartialFC(6, 4, CosFace(scale, 0.35), weight_decay=0.0)
    head.local_weight[0] = 0
    head.local_weight[1] = torch.tensor([1e30, 1e30, 0, 0])
    head.local_weight[2] = torch.tensor([1e-30, 0, 0, 0])
    head.local_weight[3] = torch.tensor([1.0, 0, 0, 0])
    x = torch.tensor([[0.0] * 4, [1e30, 0, 0, 0], [1e-30, 0, 0, 0], [-1.0, 0, 0, 0]], requires_grad=True)
    loss = head(x, torch.tensor([0, 1, 3, 3]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(x.grad).all()


def test_all_images_ignored_is_a_loss_of_zero():
    head = PartialFC(5, 4, CosFace())
    x = torch.randn(3, 4, requires_grad=True)
    loss = head(x, torch.full((3,), -1))
    loss.backward()
    assert float(loss) == 0
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_autocast_embeddings_get_a_gradient_of_their_own_type():
    head = PartialFC(5, 4, CosFace())
    x = torch.randn(3, 4).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head(x, torch.tensor([0, 1, 2]))
    loss.backward()
    assert loss.dtype == torch.float32
    assert x.grad.dtype == torch.bfloat16


def first_centres(num_classes, seed):
    return PartialFC(num_classes, 16, CosFace(), seed=seed).local_weight.numpy()


def test_first_centres_depend_on_seed_and_class_alone():
    alone = first_centres(11, 7)
    for world_size in (2, 3):
        assert np.array_equal(np.concatenate(run_ranks(world_size, first_centres, 11, 7)), alone)
    assert np.array_equal(first_centres(20, 7)[:11], alone)
    assert not np.array_equal(first_centres(11, 8), alone)
    many = first_centres(20_000, 1)
    assert many.mean() == pytest.approx(0, abs=1e-4)
    assert many.std() == pytest.approx(0.01, rel=0.01)


def wrong_label():
    import torch.distributed as dist

    head = PartialFC(10, 4, CosFace())
    labels = torch.tensor([3, 10 if dist.get_rank() == 1 else 4])
    try:
        head(torch.randn(2, 4), labels)
    except LabelError as error:
        return str(error)
    return None


def test_a_label_beyond_the_classes_is_named_on_every_rank():
    messages = run_ranks(2, wrong_label)
    expected = "rank 1: label 10 of image 1 in its batch is no class: expected 0 to 9, or -1 for none"
    assert messages == [expected, expected]


def refused(labels_of_rank_1):
    """What each rank is told when rank 1's labels cannot be used, and the loss of the call after it."""
    import torch.distributed as dist

    head = PartialFC(10, 4, CosFace())
    good = torch.tensor([3, 4])
    with pytest.raises(HeadInputError) as told:
        head(torch.ones(2, 4), labels_of_rank_1() if dist.get_rank() else good)
    return str(told.value), head(torch.ones(2, 4), good).item()


@pytest.mark.parametrize(
    "wrong", [partial(torch.zeros, 2), partial(torch.zeros, 3, dtype=torch.int64), partial(list, (3, 4))]
)
def test_what_one_rank_refuses_ends_the_call_on_all(wrong):
    (elsewhere, loss), (there, same_loss) = run_ranks(2, refused, wrong)
    assert elsewhere == "rank 1's embeddings or labels were refused there: see its error"
    assert there.startswith("labels must be ")
    assert loss == same_loss, "and nobody is out of step"


def different(name, ours, theirs):
    import torch.distributed as dist

    options = {"num_classes": 10, "embedding_dim": 4} | {name: theirs if dist.get_rank() else ours}
    head = PartialFC(margin=CosFace(), **options)
    with pytest.raises(HeadInputError) as told:
        head(torch.ones(2, head.embedding_dim), torch.tensor([3, 4]))
    return str(told.value)


@pytest.mark.parametrize(
    ("name", "ours", "theirs", "told"),
    [
        (
            "num_classes",
            10,
            11,
            "num_classes must be the same on every rank, 10 as on rank 0, got 11 on rank 1",
        ),
        (
            "embedding_dim",
            4,
            5,
            "embedding_dim must be the same on every rank, 4 as on rank 0, got 5 on rank 1",
        ),
        (
            "wire_dtype",
            torch.float32,
            torch.bfloat16,
            "wire_dtype's bytes must be the same on every rank, 4 as on rank 0, got 2 on rank 1",
        ),
    ],
)
def test_ranks_that_were_made_differently_are_told_so(name, ours, theirs, told):
    assert run_ranks(2, different, name, ours, theirs) == [told, told]


def test_wrong_arguments_are_refused_in_a_sentence():
    head = PartialFC(10, 4, CosFace())
    with pytest.raises(LabelError, match="must be int64, got torch"):
        head(torch.randn(2, 4), torch.zeros(2))
    with pytest.raises(LabelError, match=r"labels must be \(2,\)"):
        head(torch.randn(2, 4), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(HeadInputError, match=r"must be \[batch, 4\]"):
        head(torch.randn(2, 5), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(HeadInputError, match="unknown loss 'cosine'"):
        make_margin("cosine")
    with pytest.raises(HeadInputError, match="scale"):
        CosFace(scale=0)
    with pytest.raises(HeadInputError, match="state has"):
        head.load_sharded_state({})


def sampled_step(rate, micro_batches=1):
    """One step on this rank: drawn rows, losses, weights before and after, gradient of the embeddings."""
    torch.manual_seed(0)
    rng = np.random.default_rng(5)
    head = PartialFC(300, 8, CosFace(16.0, 0.2), sample_rate=rate, seed=3)
    head.local_weight.mul_(10)
    before = head.local_weight.clone()
    x = torch.from_numpy(rng.normal(size=(6, 8)).astype(np.float32)).requires_grad_()
    y = torch.from_numpy(rng.integers(0, 300, 6))
    losses = []
    for part in torch.arange(6).chunk(micro_batches):
        loss = head(x[part], y[part])
        (loss / micro_batches).backward()
        losses.append(loss.item())
    selected = [one.batch.selected for one in head._backpropagated]
    head.step(0.1)
    return selected, losses, before, head.local_weight, x, y


def test_sampling_is_the_softmax_over_the_drawn_classes_and_moves_no_other():
    (selected,), (loss,), before, after, x, y = sampled_step(0.1)
    assert len(selected) == 30
    assert set(y.tolist()) <= set(selected.tolist())
    places = torch.searchsorted(selected, y)
    expected_loss, expected_gradient, expected_after, _ = dense_step(
        x.detach().numpy(), places.numpy(), before[selected].numpy(), None, CosFace(16.0, 0.2)
    )
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert relative(x.grad.numpy(), expected_gradient) < 1e-4
    assert relative(after[selected].numpy(), expected_after) < 1e-4
    others = torch.ones(300, dtype=torch.bool)
    others[selected] = False
    assert torch.equal(after[others], before[others])


def test_micro_batches_of_a_sampled_step_each_keep_to_their_own_classes():
    selected, losses, before, after, x, y = sampled_step(0.02, micro_batches=2)
    assert not torch.equal(*selected)
    expected = torch.zeros(300, 8, dtype=torch.float64)
    for rows, loss, part in zip(selected, losses, torch.arange(6).chunk(2), strict=True):
        places = torch.searchsorted(rows, y[part]).numpy()
        part_loss, _, moved, _ = dense_step(
            x[part].detach().numpy(), places, before[rows].numpy(), None, CosFace(16.0, 0.2), weight_decay=0
        )
        assert loss == pytest.approx(part_loss, rel=1e-5)
        expected[rows] += (torch.from_numpy(moved) - before[rows]) / 2
    union = torch.unique(torch.cat(selected))
    expected[union] -= 0.1 * 5e-4 * before[union]
    assert relative((after - before).numpy(), expected.numpy()) < 1e-4


def test_sampling_is_drawn_from_seed_and_step():
    first, again = sampled_step(0.1)[0][0], sampled_step(0.1)[0][0]
    assert torch.equal(first, again)
    head = PartialFC(300, 8, CosFace(), sample_rate=0.1, seed=3)
    drawn = []
    for step in range(200):
        head.steps_taken = step
        head(torch.ones(1, 8, requires_grad=True), torch.tensor([7])).backward()
        drawn.append(head._backpropagated.pop().batch.selected)
    counts = torch.bincount(torch.cat(drawn), minlength=300)
    assert counts[7] == 200
    others = torch.cat((counts[:7], counts[8:])).double()  # each drawn 200 · 29/299 = 19.4 times
    chi_square = ((others - others.mean()) ** 2 / others.mean()).sum().item()
    assert 180 < chi_square < 380, "299 classes drawn uniformly: about 270, deviation 22"
