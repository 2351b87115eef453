"""What a head's workspace is enough for, so that a plan or a benchmark can say it beforehand."""

from __future__ import annotations

import torch

from partial_fc.kernels.precision import precision_for
from partial_fc.kernels.tiles import CPU_TILE, bytes_beside


def keeps_exponentials(
    rows: int, images: int, dim: int, *, dtype: torch.dtype, threads: int, workspace_mib: float
) -> bool:
    """Whether a step on the CPU keeps its exponentials for the update, or has to make them again.

    rows: class centres of the rank that take part; images: of all ranks; dim: numbers an embedding; dtype:
    float32 or bfloat16, the head's compute_dtype; threads: of the rank.
    """
    precision = precision_for(dtype, torch.device("cpu"))
    beside = bytes_beside(precision.multiply, CPU_TILE[precision.multiply], threads, rows, images, dim)
    return rows * images * precision.keep.itemsize + beside <= workspace_mib * 2**20
