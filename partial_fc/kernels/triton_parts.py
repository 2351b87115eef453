"""What the Triton kernels share: how they are compiled, multiply and round; where they can run.

Triton's interpreter (TRITON_INTERPRET=1, set before Python starts) runs them on a CPU, slowly, for tests. It
keeps bfloat16 as 16 bits: it would multiply these as whole numbers, and cuts where a GPU rounds, so both are
written out for it here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from partial_fc.errors import HeadInputError


def jit(function: Callable[..., Any]) -> Any:
    """The function as a Triton kernel, or as a part of one."""
    return triton.jit(function)


@jit
def _nothing() -> None:
    pass


INTERPRETED = tl.constexpr(not isinstance(_nothing, triton.JITFunction))


@jit
def product(a: tl.tensor, b: tl.tensor, added: tl.tensor) -> tl.tensor:
    """added + a b, in float32: [m, n] + [m, k] [k, n]. float32 is not cut down to tf32."""
    if INTERPRETED:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, added, input_precision="ieee")


@jit
def rounded(x: tl.tensor, dtype: tl.constexpr) -> tl.tensor:
    """float32 to float32 or bfloat16: to the nearest, ties to even."""
    if INTERPRETED and dtype == tl.bfloat16:
        bits = x.to(tl.uint32, bitcast=True)
        bits = tl.where(x != x, bits | 0x400000, bits + 0x7FFF + ((bits >> 16) & 1))
        return (bits >> 16).to(tl.uint16).to(tl.bfloat16, bitcast=True)
    return x.to(dtype)


def power_of_2(count: int, least: int, most: int) -> int:
    """The smallest power of 2 that is not below `count`, within two others."""
    return max(least, min(most, 1 << max(0, count - 1).bit_length()))


def device_of(tensor: Tensor) -> Any:
    """A context in which kernels start on the tensor's GPU."""
    return torch.cuda.device_of(tensor)  # type: ignore[no-untyped-call]


def check_device(device: torch.device) -> None:
    """Raise HeadInputError if the kernels cannot run there."""
    if device.type != "cuda" and not INTERPRETED:
        raise HeadInputError(
            f"kernels 'triton' needs a CUDA device, got {device}: take 'auto' or 'tiles' "
            "(or set TRITON_INTERPRET=1, for tests)"
        )
