"""What is done to the rows of centres beside matrix products: norms, rounding, the optimisers' update.

These are bound by memory, so each is one fused loop, compiled by numba, on a GPU by Triton. Without these
torch does the same in several passes; a warning says so once. Every function takes [rows, dim] float32,
changes what it is told to in place and may run on several threads at once, on rows of their own.
"""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

from torch import Tensor

import partial_fc.kernels.rows_torch as rows_torch

_COMPILERS = {"cpu": "numba", "cuda": "triton"}


def _fastest(device_type: str) -> ModuleType:
    compiler = _COMPILERS.get(device_type)
    if compiler is None:
        return rows_torch
    try:
        return importlib.import_module(f"partial_fc.kernels.rows_{compiler}")
    except ImportError:
        warnings.warn(
            f"{compiler} is not installed: the class centres are updated by torch, which takes longer "
            f"(pip install {compiler})",
            stacklevel=3,
        )
        return rows_torch


_chosen: dict[str, ModuleType] = {}


def rows_for(tensor: Tensor) -> ModuleType:
    """The module of row functions for a tensor's device."""
    device_type = tensor.device.type
    if device_type not in _chosen:
        _chosen[device_type] = _fastest(device_type)
    return _chosen[device_type]
