"""Memory is handed out again when nobody has it any more, and never before."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch

from data_pipeline.loader.memory import ReusedMemory

CPU = torch.device("cpu")
HOLDERS: dict[str, Callable[[torch.Tensor], object]] = {
    "itself": lambda tensor: tensor,
    "a view": lambda tensor: tensor[1:, 0],
    "another shape": lambda tensor: tensor.flatten(),
    "without its gradient": lambda tensor: tensor.detach(),
    "an array": lambda tensor: tensor.numpy(),
    "a view of an array": lambda tensor: tensor.numpy()[1, 0],
    "its storage": lambda tensor: tensor.untyped_storage(),
    "a graph": lambda tensor: (torch.ones(1, requires_grad=True) * tensor).sum(),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_what_somebody_holds_is_not_handed_out(holder: str) -> None:
    memory = ReusedMemory((4, 3, 2, 2), CPU)
    tensor = memory.take(4)
    address = tensor.data_ptr()
    held = HOLDERS[holder](tensor)
    del tensor
    assert all(memory.take(4).data_ptr() != address for _ in range(5))
    del held
    gc.collect()
    assert memory.take(4).data_ptr() == address


def test_a_loop_that_lets_go_uses_the_same_again() -> None:
    memory = ReusedMemory((4, 3, 2, 2), CPU)
    addresses = set()
    for count in (4, 2, 3, 4, 1):
        tensor = memory.take(count)
        assert tensor.shape == (count, 3, 2, 2)
        addresses.add(tensor.data_ptr())
        del tensor
    assert len(addresses) == 1


def test_batches_that_are_all_kept_stay_as_they_are() -> None:
    memory = ReusedMemory((2, 1, 1, 1), CPU)
    kept = [memory.take(2).fill_(number) for number in range(10)]
    assert [int(tensor[1]) for tensor in kept] == list(range(10))
    assert len({tensor.data_ptr() for tensor in kept}) == 10
