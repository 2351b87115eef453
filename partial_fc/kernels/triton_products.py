"""The three matrix products of triton_kernels.py, each with all that is done to a tile in registers.

    exponentials   m = max_j z_ij      s = Σ_j exp(z_ij − m)      P_ij = exp(z_ij − m) / ‖w_j‖
    weigh          U_i = decay_i U_i + Σ_b scale_bi Σ_{j∈b} P_ij w_j
    pull           ∂L/∂w_j (+)= Σ_i P_ij coefficient_bi inputs_i

j runs over a block b of BLOCK_CLASSES classes, which has a maximum m and a sum s of its own for each image i.
A program owns what it writes: no atomics, the same bits at every run. Sums are float32, products float32 or
bfloat16 as their tensors are. R classes, B blocks of them, G images.
"""

from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor

import partial_fc.numerics as numerics
from partial_fc.kernels.triton_parts import device_of, jit, power_of_2, product, rounded

BLOCK_CLASSES = 64
ENOUGH_PROGRAMS = 256
"""About two for each multiprocessor of a large GPU: `weigh` splits its classes until there are as many."""
_FURTHEST = tl.constexpr(numerics.FURTHEST)


def exponentials(
    inputs: Tensor,
    centres: Tensor,
    inverse: Tensor | None,
    bias: Tensor | None,
    undrawn: Tensor | None,
    targets: Tensor,
    first: int,
    factors: Tensor | None,
    maxima: Tensor,
    sums: Tensor,
) -> None:
    """Fill factors [R, G] (None: not wanted), maxima and sums [B, G]; 0, −inf and 0 where no class counts.

    inputs: [G, dim]; centres: [R, dim] of the same dtype; inverse: [R] float32, 1/‖w‖, None for 1;
    bias: [R] float32; undrawn: [R] bool, classes that do not count; targets: [G] int64, the class that does
    not count for an image, the first of these R being `first`.
    """
    (images, dim), classes = inputs.shape, centres.shape[0]
    block_images = power_of_2(images, 16, 128)
    grid = maxima.shape[0], blocks(images, block_images)
    with device_of(inputs):
        _exponentials[grid](
            inputs, centres, inverse, bias, undrawn, targets, factors, maxima, sums, first, classes, images,
            DIM=dim,
            BLOCK_C=BLOCK_CLASSES,
            BLOCK_I=block_images,
            BLOCK_D=power_of_2(dim, 16, 32 if inputs.dtype == torch.float32 else 64),
            num_stages=_stages(inputs),
        )  # fmt: skip


def weigh(
    factors: Tensor, centres: Tensor, scales: Tensor, decay: Tensor, weighted: Tensor, most: int
) -> None:
    """weighted: [splits, G, dim] float32, each of which takes in its share of the classes.

    factors: [R, G]; centres: [R, dim]; scales: [B, G]; decay: [G]; most: the largest B that there will be.
    """
    (splits, images, dim), classes = weighted.shape, factors.shape[0]
    block_images, block_dim = power_of_2(images, 16, 64), _block_dim(centres)
    grid = blocks(images, block_images), blocks(dim, block_dim), splits
    with device_of(centres):
        _weigh[grid](
            factors, centres, scales, decay, weighted, classes, images,
            DIM=dim,
            BLOCKS=blocks(most, splits),
            BLOCK_C=BLOCK_CLASSES,
            BLOCK_I=block_images,
            BLOCK_D=block_dim,
            num_stages=_stages(centres),
        )  # fmt: skip


def splits_of(inputs: Tensor, most: int) -> int:
    """Into how many shares `weigh` should split up to `most` blocks of classes."""
    images, dim = inputs.shape
    programs = blocks(images, power_of_2(images, 16, 64)) * blocks(dim, _block_dim(inputs))
    return max(1, min(most, ENOUGH_PROGRAMS // max(1, programs)))


def pull(
    factors: Tensor,
    inputs: Tensor,
    coefficients: Tensor,
    gradient: Tensor,
    bias_gradient: Tensor | None,
    adds: bool,
) -> None:
    """gradient: [R, dim] float32; bias_gradient: [R] float32, Σ_i P coefficient; adds: to what is there.

    factors: [R, G]; inputs: [G, dim]; coefficients: [B, G] float32.
    """
    (images, dim), classes = inputs.shape, factors.shape[0]
    block_images, block_dim = power_of_2(images, 16, 64), _block_dim(inputs)
    with device_of(inputs):
        _pull[coefficients.shape[0], blocks(dim, block_dim)](
            factors, inputs, coefficients, gradient, bias_gradient, classes, images,
            DIM=dim,
            ADDS=adds,
            BLOCKS=blocks(images, block_images),
            BLOCK_C=BLOCK_CLASSES,
            BLOCK_I=block_images,
            BLOCK_D=block_dim,
            num_stages=_stages(inputs),
        )  # fmt: skip


def blocks(count: int, size: int) -> int:
    """How many blocks of a size hold so many."""
    return -(-count // size)


def _block_dim(factors: Tensor) -> int:
    return power_of_2(factors.shape[1], 16, 64 if factors.dtype == torch.float32 else 128)


def _stages(factors: Tensor) -> int:
    """Of tiles on their way: as many as leave room in the shared memory of small GPUs too."""
    return 2 if factors.dtype == torch.float32 else 3


@jit
def _exponentials(
    inputs: tl.tensor,
    centres: tl.tensor,
    inverse: tl.tensor,
    bias: tl.tensor,
    undrawn: tl.tensor,
    targets: tl.tensor,
    factors: tl.tensor,
    maxima: tl.tensor,
    sums: tl.tensor,
    first_class: tl.tensor,
    classes: tl.tensor,
    images: tl.tensor,
    DIM: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    i = tl.program_id(1) * BLOCK_I + tl.arange(0, BLOCK_I)
    has_c, has_i = c < classes, i < images
    rows, columns = c.to(tl.int64), i.to(tl.int64)
    z = tl.zeros((BLOCK_C, BLOCK_I), tl.float32)
    for start in range(0, DIM, BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)
        has_d = d < DIM
        w = tl.load(centres + rows[:, None] * DIM + d[None, :], has_c[:, None] & has_d[None, :], 0.0)
        x = tl.load(inputs + columns[None, :] * DIM + d[:, None], has_i[None, :] & has_d[:, None], 0.0)
        z = product(w, x, z)
    if inverse is not None:
        z *= tl.load(inverse + c, has_c, 0.0)[:, None]
    if bias is not None:
        z += tl.load(bias + c, has_c, 0.0)[:, None]
    z = tl.where(z > _FURTHEST, _FURTHEST, z)  # a NaN stays one
    target = tl.load(targets + i, has_i, -1)
    left_out = (c[:, None] + first_class == target[None, :]) | (c >= classes)[:, None]
    if undrawn is not None:
        left_out |= tl.load(undrawn + c, has_c, 0).to(tl.int1)[:, None]
    z = tl.where(left_out, float("-inf"), z)

    largest = tl.max(z, axis=0)
    values = tl.exp(z - tl.where(largest == float("-inf"), 0.0, largest)[None, :])
    of_block = tl.program_id(0).to(tl.int64) * images + i
    tl.store(maxima + of_block, largest, has_i)
    tl.store(sums + of_block, tl.sum(values, axis=0), has_i)
    if factors is not None:
        if inverse is not None:
            values *= tl.load(inverse + c, has_c, 0.0)[:, None]
        place = factors + rows[:, None] * images + i[None, :]
        tl.store(place, rounded(values, factors.dtype.element_ty), has_c[:, None] & has_i[None, :])


@jit
def _weigh(
    factors: tl.tensor,
    centres: tl.tensor,
    scales: tl.tensor,
    decay: tl.tensor,
    weighted: tl.tensor,
    classes: tl.tensor,
    images: tl.tensor,
    DIM: tl.constexpr,
    BLOCKS: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    i = tl.program_id(0) * BLOCK_I + tl.arange(0, BLOCK_I)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    split = tl.program_id(2)
    has_i, has_d = i < images, d < DIM
    inside = has_i[:, None] & has_d[None, :]
    own = weighted + split.to(tl.int64) * images * DIM + i.to(tl.int64)[:, None] * DIM + d[None, :]
    total = tl.load(own, inside, 0.0) * tl.load(decay + i, has_i, 0.0)[:, None]
    for number in range(BLOCKS):
        block = split * BLOCKS + number
        c = block * BLOCK_C + tl.arange(0, BLOCK_C)
        has_c, rows = c < classes, c.to(tl.int64)
        p = tl.load(factors + rows[None, :] * images + i[:, None], has_c[None, :] & has_i[:, None], 0.0)
        w = tl.load(centres + rows[:, None] * DIM + d[None, :], has_c[:, None] & has_d[None, :], 0.0)
        exists = i < tl.where(block * BLOCK_C < classes, images, 0)
        scale = tl.load(scales + block.to(tl.int64) * images + i, exists, 0.0)
        total += product(p, w, tl.zeros((BLOCK_I, BLOCK_D), tl.float32)) * scale[:, None]
    tl.store(own, total, inside)


@jit
def _pull(
    factors: tl.tensor,
    inputs: tl.tensor,
    coefficients: tl.tensor,
    gradient: tl.tensor,
    bias_gradient: tl.tensor,
    classes: tl.tensor,
    images: tl.tensor,
    DIM: tl.constexpr,
    ADDS: tl.constexpr,
    BLOCKS: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    has_c, has_d = c < classes, d < DIM
    inside = has_c[:, None] & has_d[None, :]
    rows = c.to(tl.int64)
    own = gradient + rows[:, None] * DIM + d[None, :]
    total = tl.zeros((BLOCK_C, BLOCK_D), tl.float32)
    of_bias = tl.zeros((BLOCK_C,), tl.float32)
    for number in range(BLOCKS):
        i = number * BLOCK_I + tl.arange(0, BLOCK_I)
        has_i = i < images
        p = tl.load(factors + rows[:, None] * images + i[None, :], has_c[:, None] & has_i[None, :], 0.0)
        x = tl.load(inputs + i.to(tl.int64)[:, None] * DIM + d[None, :], has_i[:, None] & has_d[None, :], 0.0)
        coefficient = tl.load(coefficients + tl.program_id(0).to(tl.int64) * images + i, has_i, 0.0)
        pulled = p.to(tl.float32) * coefficient[None, :]
        if bias_gradient is not None:
            of_bias += tl.sum(pulled, axis=1)
        total = product(rounded(pulled, inputs.dtype.element_ty), x, total)
    if ADDS:
        total += tl.load(own, inside, 0.0)
    tl.store(own, total, inside)
    if bias_gradient is not None:
        # Every program along dim has found the same; the first writes it.
        if ADDS:
            of_bias += tl.load(bias_gradient + c, has_c, 0.0)
        tl.store(bias_gradient + c, of_bias, c < tl.where(tl.program_id(1) == 0, classes, 0))
