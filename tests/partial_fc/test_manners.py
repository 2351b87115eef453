"""What a training loop may expect of a library beside the right numbers: no surprise, nothing shared."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from partial_fc import AdamW, ArcFace, CosFace, Margin, PartialFC, Softmax
from partial_fc.errors import HeadInputError

PIXELS, DIM, CLASSES = 12, 8, 30
COSFACE = CosFace(16.0, 0.2)


def backbone() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(PIXELS, 16), nn.PReLU(), nn.Linear(16, DIM))


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(8, PIXELS, generator=generator)
    return x, torch.randint(0, CLASSES, (8,), generator=generator)


def train(embed: Callable[[Tensor], Tensor], model: nn.Module, steps: int = 6) -> list[float]:
    """The losses of a plain loop."""
    head = PartialFC(CLASSES, DIM, COSFACE)
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    losses = []
    for step in range(steps):
        x, y = batch(step % 2)
        loss = head(embed(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        head.step(0.1)
        losses.append(loss.item())
    return losses


# ---- what may stand before or around it ----


def test_a_compiled_backbone_trains_as_the_plain_one() -> None:
    plain, compiled = backbone(), backbone()
    expected = train(plain, plain)
    assert expected[-1] < expected[0]
    assert train(torch.compile(compiled, backend="aot_eager"), compiled) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"lr": "0.1"}, "lr must be a number of at least 0, got the text '0.1'"),
        ({"lr": None}, "lr must be a number of at least 0, got None"),
        ({"lr": -0.1}, "lr must be a number of at least 0, got -0.1"),
        ({"lr": float("nan")}, "lr must be a number of at least 0, got nan"),
        ({"lr": float("inf")}, "lr must be a number of at least 0, got inf"),
        ({"lr": 0.1, "gradient_scale": None}, "gradient_scale must be a number, got None"),
    ],
)
def test_a_step_of_no_number_is_refused_and_moves_nothing(arguments: dict[str, Any], said: str) -> None:
    model, (head, twin) = backbone(), (PartialFC(CLASSES, DIM, COSFACE) for _ in range(2))
    x, y = batch(0)
    for one in (head, twin):
        one(model(x), y).backward()
    with pytest.raises(HeadInputError) as caught:
        head.step(**arguments)
    assert str(caught.value) == said
    # The step can still be made, with a tensor of one number as with a float.
    head.step(torch.tensor(0.5))
    twin.step(0.5)
    assert torch.equal(head.sharded_state()["weight"], twin.sharded_state()["weight"])


def test_a_compiled_step_leaves_the_head_alone() -> None:
    model, head = backbone(), PartialFC(CLASSES, DIM, COSFACE)
    x, y = batch(0)
    seen = []

    def look(graph: Any, inputs: Any) -> Any:
        seen.append(sum(node.op == "call_function" for node in graph.graph.nodes))
        return graph

    loss = torch.compile(lambda: head(model(x), y), backend=look)()
    loss.backward()
    head.step(0.1)
    assert loss.item() == pytest.approx(PartialFC(CLASSES, DIM, COSFACE)(model(x), y).item(), rel=1e-5)
    assert len(seen) == 1, "one graph, the backbone's"
    assert seen[0] <= 4


def test_an_autocast_backbone_trains_as_the_plain_one() -> None:
    plain, rounded = backbone(), backbone()

    def embed(x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            made: Tensor = rounded(x)
        assert made.dtype == torch.bfloat16
        return made

    assert train(embed, rounded) == pytest.approx(train(plain, plain), rel=0.02)


def test_embeddings_made_in_inference_mode_teach_the_centres() -> None:
    model, heads = backbone(), [PartialFC(CLASSES, DIM, COSFACE) for _ in range(2)]
    x, y = batch(0)
    with torch.inference_mode():
        frozen = model(x)
    for head, embeddings in zip(heads, (frozen, model(x).detach()), strict=True):
        head(embeddings, y).backward()
        head.step(0.1)
    assert torch.equal(heads[0].local_weight, heads[1].local_weight)
    assert not torch.equal(heads[0].local_weight, PartialFC(CLASSES, DIM, COSFACE).local_weight)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_an_evaluation_has_the_loss_and_leaves_nothing_behind(mode: Any) -> None:
    model, head = backbone(), PartialFC(CLASSES, DIM, COSFACE)
    x, y = batch(0)
    expected = head(model(x), y)
    with mode():
        found = head(model(x), y)
    assert found.item() == expected.item()
    assert not found.requires_grad
    expected.backward()
    head.step(0.1)
    moved = PartialFC(CLASSES, DIM, COSFACE)
    moved(model(x), y).backward()
    moved.step(0.1)
    assert torch.equal(head.local_weight, moved.local_weight)


def test_a_default_type_of_the_users_changes_nothing() -> None:
    results = []
    before = torch.get_default_dtype()
    for default in (torch.float32, torch.bfloat16):
        for margin in (Softmax(), COSFACE):
            x, y = batch(0)
            torch.set_default_dtype(default)
            try:
                head = PartialFC(CLASSES, DIM, margin)
                loss = head(x[:, :DIM], y)
                loss.backward()
                head.step(0.1)
            finally:
                torch.set_default_dtype(before)
            results.append([loss.detach(), *head.sharded_state().values()])
    for found, expected in zip(results[2:], results[:2], strict=True):
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == torch.float32
            assert torch.equal(one, other)


# ---- what is the head's, and what the user's ----


def test_centres_written_in_place_are_the_next_steps() -> None:
    x, y = batch(0)
    x, head, fresh = x[:, :DIM], PartialFC(CLASSES, DIM, COSFACE), torch.randn(CLASSES, DIM)
    head(x, y)
    head.local_weight.copy_(fresh)
    unit = nn.functional.normalize
    logits = 16.0 * (unit(x) @ unit(fresh).T - 0.2 * nn.functional.one_hot(y, CLASSES))
    expected = nn.functional.cross_entropy(logits, y).item()
    assert head(x, y).item() == pytest.approx(expected, rel=1e-5)


def test_a_head_is_not_copied_by_accident() -> None:
    # It belongs to a process group and may be as large as the memory: its state is what is saved or copied.
    head = PartialFC(CLASSES, DIM, COSFACE)
    for copying in (copy.deepcopy, pickle.dumps):
        with pytest.raises(HeadInputError, match="neither copied nor pickled"):
            copying(head)
    other = PartialFC(CLASSES, DIM, COSFACE, seed=1)
    other.load_sharded_state(head.sharded_state())
    assert torch.equal(other.local_weight, head.local_weight)


def test_heads_of_different_kinds_do_not_touch_each_other() -> None:
    kinds: list[tuple[Margin, dict[str, Any]]] = [
        (COSFACE, {"kernels": "reference"}),
        (ArcFace(16.0, 0.3), {"compute_dtype": torch.bfloat16, "workspace_mib": 0.0}),
        (Softmax(), {"optimiser": AdamW(), "moment_dtype": torch.bfloat16, "sample_rate": 0.5}),
    ]

    def run(heads: list[PartialFC]) -> list[Tensor]:
        for step in range(3):
            x, y = batch(step)
            losses = [head(x[:, :DIM], y) for head in heads]
            for head, loss in reversed(list(zip(heads, losses, strict=True))):
                loss.backward()
                head.step(0.1)
        return [head.local_weight for head in heads]

    together = run([PartialFC(CLASSES, DIM, margin, **options) for margin, options in kinds])
    for (margin, options), weight in zip(kinds, together, strict=True):
        assert torch.equal(run([PartialFC(CLASSES, DIM, margin, **options)])[0], weight)
