"""The two passes over a rank's class centres, behind one small interface.

reference   dense, float64, as the formulas read; for tests and for small sets
tiles       what trains: tile by tile, with numba's or Triton's rows, on a CPU with threads of its own
triton      what trains on GPUs: exponentials and optimisers' updates fused by Triton
"""

from __future__ import annotations

from typing import Protocol

import torch

from partial_fc.batch import Backpropagated, Batch, NegativeSums, Shard
from partial_fc.errors import HeadInputError
from partial_fc.optim import Move

KERNELS = ("auto", "reference", "tiles", "triton")


class Kernels(Protocol):
    """How a rank's negatives are summed and its centres moved."""

    def forward(self, shard: Shard, batch: Batch, for_gradient: bool) -> NegativeSums:
        """Sum the exponentials of all logits but the targets'; for_gradient: weighted by centres too."""
        ...

    def update(self, shard: Shard, passes: list[Backpropagated], move: Move) -> None:
        """Move the centres, in place, by the gradient of all these batches together."""
        ...


def make_kernels(name: str, dtype: torch.dtype, workspace_bytes: int, device: torch.device) -> Kernels:
    """The kernels by name, "auto" being the fastest for the device. Raises HeadInputError."""
    if name not in KERNELS:
        raise HeadInputError(f"kernels must be one of {', '.join(KERNELS)}, got {name!r}")
    if name == "reference":
        from partial_fc.kernels.reference import ReferenceKernels

        return ReferenceKernels()
    if name == "triton" or (name == "auto" and device.type == "cuda"):
        try:
            from partial_fc.kernels.triton_kernels import TritonKernels

            return TritonKernels(dtype, workspace_bytes, device)
        except ImportError:
            if name == "triton":
                raise HeadInputError(
                    "kernels 'triton' needs the package triton, which is not installed: pip install triton, "
                    "or take 'auto' or 'tiles'"
                ) from None
    from partial_fc.kernels.tiles import TileKernels

    return TileKernels(dtype, workspace_bytes, device)
