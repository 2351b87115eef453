"""What is kept of a step's exponentials: within the budget, once, and no longer than needed."""

from __future__ import annotations

import gc
import weakref

import torch

from partial_fc import CosFace, PartialFC
from partial_fc.kernels.arena import Arena
from tests.partial_fc.running import DIM, data

# What one batch needs of 10 images and 1,000 classes: exponentials, 1/‖w‖, and each thread's tile of centres,
# their logits and their gradient.
ONE_BATCH_MIB = 1000 * (4 * 10 + 4 + torch.get_num_threads() * 4 * (DIM + 10 + DIM)) / 2**20


def test_the_arena_lends_no_more_than_its_budget_and_no_memory_twice() -> None:
    arena = Arena(100, torch.device("cpu"))
    first = arena.lend(10, torch.float32)
    second = arena.lend(30, torch.bfloat16)
    assert first is not None
    assert second is not None
    assert arena.lend(1, torch.float32) is None
    first.memory.fill_(1.0)
    second.memory.fill_(2.0)
    assert first.memory.sum().item() == 10
    del first
    third = arena.lend(10, torch.float32)
    assert third is not None
    third.memory.fill_(3.0)
    assert second.memory.float().sum().item() == 60


def test_the_workspace_is_all_that_a_step_takes() -> None:
    x, y = data(10, 1000)
    for missing, keeps in ((0, True), (1, False)):
        head = PartialFC(1000, DIM, CosFace(), workspace_mib=ONE_BATCH_MIB - missing / 2**20)
        loss = head(x.clone().requires_grad_(), y)
        assert (loss.grad_fn.done[0].passed.kept is not None) == keeps  # type: ignore[union-attr]


def test_what_was_kept_is_not_used_on_centres_that_were_written_since() -> None:
    x, y = data(10, 1000)
    results = []
    for workspace in (512.0, 0.0):
        head = PartialFC(1000, DIM, CosFace(), workspace_mib=workspace)
        head(x.clone().requires_grad_(), y).backward()
        head.local_weight.div_(head.local_weight.norm(dim=1, keepdim=True))
        head.step(0.1)
        results.append(head.local_weight)
    torch.testing.assert_close(results[0], results[1])


def test_a_batch_that_is_forgotten_frees_its_exponentials() -> None:
    x, y = data(10, 1000)
    head = PartialFC(1000, DIM, CosFace(), workspace_mib=ONE_BATCH_MIB)
    gc.disable()  # by reference counts alone, no cycle is left
    try:
        losses = []
        for _ in range(3):
            loss = head(x.clone().requires_grad_(), y)
            kept = loss.grad_fn.done[0].passed.kept  # type: ignore[union-attr]
            assert kept is not None
            watched = weakref.ref(kept.loan)
            del kept
            losses.append(loss.item())
            del loss
            assert watched() is None
    finally:
        gc.enable()
    assert len(set(losses)) == 1


def test_a_plain_loop_keeps_in_the_same_memory() -> None:
    x, y = data(10, 1000)
    head = PartialFC(1000, DIM, CosFace(), workspace_mib=ONE_BATCH_MIB)
    places = set()
    for _ in range(4):
        loss = head(x.clone().requires_grad_(), y)  # while the one before is still held
        kept = loss.grad_fn.done[0].passed.kept  # type: ignore[union-attr]
        places.add(kept.loan.memory.data_ptr())
        del kept
        loss.backward()
        head.step(0.1)
    assert len(places) == 1
