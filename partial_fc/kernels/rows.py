"""What is done to the rows of centres beside matrix products: norms, rounding, the optimisers' update.

These are bound by memory, so each is one fused loop, compiled by numba. Without numba torch does the same in
several passes; a warning says so once. Every function takes [rows, dim] float32, changes what it is told to
in place and may run on several threads at once, on rows of their own.
"""

from __future__ import annotations

import warnings
from types import ModuleType

from torch import Tensor

from partial_fc.kernels import rows_torch


def _fastest() -> ModuleType:
    try:
        from partial_fc.kernels import rows_numba
    except ImportError:
        warnings.warn(
            "numba is not installed: the class centres are updated by torch, which takes longer "
            "(pip install numba)",
            stacklevel=2,
        )
        return rows_torch
    return rows_numba


_chosen: list[ModuleType] = []


def rows_for(tensor: Tensor) -> ModuleType:
    """The module of row functions for a tensor's device."""
    if tensor.device.type != "cpu":
        return rows_torch
    if not _chosen:
        _chosen.append(_fastest())
    return _chosen[0]
