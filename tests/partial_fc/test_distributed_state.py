"""A head's state through torch.distributed.checkpoint: saved on some ranks, loaded on others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import MetadataIndex

from partial_fc import AdamW, CosFace, CurricularFace, DistributedState, Margin, PartialFC, Softmax
from partial_fc.distributed_state import PIECE
from tests.ranks import run_ranks

DIM = 8
# Margin, classes, options: shards that torch.chunk would cut otherwise (4, 4, 2), sub-centres and something
# remembered; two moments of two types, several pieces a rank; a bias, and fewer classes than ranks.
HEADS: list[tuple[Margin, int, dict[str, Any]]] = [
    (CurricularFace(centres_per_class=2, forgets=0.3), 10, {}),
    (CosFace(), 200_000, {"optimiser": AdamW(), "moment_dtype": torch.bfloat16}),
    (Softmax(), 2, {}),
]
State = tuple[dict[str, np.ndarray], int, dict[str, float]]


def made(number: int, seed: int) -> PartialFC:
    margin, classes, options = HEADS[number]
    return PartialFC(classes, DIM, margin, seed=seed, **options)


def train(head: PartialFC, steps: int) -> None:
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(4, DIM, generator=generator, requires_grad=True)
        head(x, torch.randint(0, head.num_classes, (4,), generator=generator)).backward()
        head.step(0.1)


def seen(head: PartialFC) -> State:
    rows = {name: tensor.float().numpy().copy() for name, tensor in head.sharded_state().items()}
    return rows, head.steps_taken, head.margin_state


def trained(number: int) -> PartialFC:
    head = made(number, seed=1)
    train(head, 3)
    return head


def save(folder: str, asynchronously: bool = False) -> list[State]:
    states = []
    # The thread that writes must not take turns with the head in the exchanges of one group.
    group = dist.new_group() if asynchronously else None
    for number in range(len(HEADS)):
        head, place = trained(number), f"{folder}/{number}"
        states.append(seen(head))
        state = {"head": DistributedState(head), "backbone": {"weight": torch.ones(3)}}
        if asynchronously:
            written: Any = dcp.async_save(state, checkpoint_id=place, process_group=group)
            train(head, 1)  # which must not reach what is being written
            written.result()
        else:
            dcp.save(state, checkpoint_id=place)
    return states


def load(folder: str) -> list[State]:
    states = []
    for number in range(len(HEADS)):
        head = made(number, seed=2)
        backbone = {"weight": torch.zeros(3)}
        dcp.load({"head": DistributedState(head), "backbone": backbone}, checkpoint_id=f"{folder}/{number}")
        assert torch.equal(backbone["weight"], torch.ones(3))
        states.append(seen(head))
    return states


def assert_same(found: list[list[State]], expected: list[list[State]]) -> None:
    """Each by rank and head: the same classes' rows, however they are divided."""
    for ours, theirs in zip(zip(*found, strict=True), zip(*expected, strict=True), strict=True):
        assert {state[1] for state in ours} == {theirs[0][1]}
        assert all(state[2] == theirs[0][2] for state in ours)
        for name in theirs[0][0]:
            parts = [np.concatenate([state[0][name] for state in side]) for side in (ours, theirs)]
            assert np.array_equal(*parts), name


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_every_class_has_its_centre_and_moments_on_any_number_of_ranks(tmp_path: Path) -> None:
    three = run_ranks(3, save, str(tmp_path / "three"))
    saved = dcp.FileSystemReader(tmp_path / "three/1").read_metadata().state_dict_metadata["head.weight"]
    assert max(chunk.sizes[0] for chunk in saved.chunks) == PIECE
    assert_same(run_ranks(2, load, str(tmp_path / "three")), three)
    alone = load(str(tmp_path / "three"))
    assert_same([alone], three)
    one = save(str(tmp_path / "one"))
    assert_same(run_ranks(3, load, str(tmp_path / "one")), [one])


def test_what_is_written_in_the_background_is_the_state_of_the_call(tmp_path: Path) -> None:
    two = run_ranks(2, save, str(tmp_path), True)
    assert_same(run_ranks(2, load, str(tmp_path)), two)


def largest_part() -> tuple[int, list[int]]:
    """What this rank offers: the largest tensor it holds, and the whole's shape."""
    head = PartialFC(10, DIM, CosFace())
    rows = DistributedState(head).state_dict()["weight"]
    parts = [
        rows.__get_tensor_shard__(MetadataIndex("weight", chunk.offsets))  # type: ignore[attr-defined]
        for chunk in rows.__create_chunk_list__()  # type: ignore[attr-defined]
    ]
    assert [part.data_ptr() for part in parts] == [head.local_weight.data_ptr()], "not a copy"
    with pytest.raises(NotImplementedError, match=r"head.sharded_state\(\)"):
        rows + 1
    return max(part.numel() for part in parts), list(rows.shape)


def test_no_rank_holds_more_than_its_shard() -> None:
    assert run_ranks(3, largest_part) == [(4 * DIM, [10, DIM]), (3 * DIM, [10, DIM]), (3 * DIM, [10, DIM])]


def load_another(folder: str) -> str:
    head = PartialFC(11, DIM, CosFace())
    with pytest.raises(dcp.api.CheckpointException) as raised:
        dcp.load({"head": DistributedState(head)}, checkpoint_id=folder)
    return str(raised.value)


def save_small(folder: str) -> None:
    dcp.save({"head": DistributedState(PartialFC(10, DIM, CosFace()))}, checkpoint_id=folder)
    dist.barrier()


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    run_ranks(2, save_small, str(tmp_path))
    for message in run_ranks(2, load_another, str(tmp_path)):
        assert "Size mismatch between saved torch.Size([10, 8]) and current: torch.Size([11, 8])" in message
