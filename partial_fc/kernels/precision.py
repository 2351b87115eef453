"""What "bfloat16" means on a device: products in it where the processor has instructions for it."""

from __future__ import annotations

import torch

from partial_fc.kernels.tile import Precision


def precision_for(dtype: torch.dtype, device: torch.device) -> Precision:
    """float32, or bfloat16: without instructions for it float32 multiplies, and kept numbers are bfloat16."""
    if dtype == torch.float32 or device.type != "cpu" or has_bfloat16_products():
        return Precision(dtype, dtype)
    return Precision(torch.float32, dtype)


def has_bfloat16_products() -> bool:
    """Whether this processor multiplies matrices of bfloat16 (AVX512-BF16 or AMX)."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, bool)()) for name in checks)
