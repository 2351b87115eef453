"""What the Triton kernels must do on a device: as the reference and rows_torch do, at every run the same."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from partial_fc import SGD, AdamW, ArcFace, CosFace, CurricularFace, Margin, PartialFC, Softmax
from tests.partial_fc.running import assert_like, data, run
from tests.partial_fc.test_rows import DTYPES, ROWS, close, made

# (margin, options, micro-batches), to be as the reference is.
SCENARIOS: list[tuple[Margin, dict[str, Any], int]] = [
    (margin, {"sample_rate": rate, "workspace_mib": workspace}, parts)
    for margin in (CosFace(32.0, 0.2), Softmax())
    for rate in (1.0, 0.3)
    for workspace, parts in ((0.0, 1), (512.0, 2), (0.02, 2))
] + [
    (CosFace(32.0, 0.2), {"optimiser": SGD(0.1, 1e-3, momentum=0.5)}, 1),
    (CosFace(32.0, 0.2), {"optimiser": AdamW(row_limit=1e-2)}, 1),
    (Softmax(), {"optimiser": AdamW()}, 1),
    (ArcFace(32.0, 0.4, centres_per_class=3), {}, 2),
    (CurricularFace(32.0), {"sample_rate": 0.4}, 2),
]


def check_scenarios(device: str) -> None:
    for margin, options, parts in SCENARIOS:
        x, y = (tensor.to(device) for tensor in data(24, 300))
        place: dict[str, Any] = {"device": device, "parts": parts} | options
        found = run(margin, 300, x, y, kernels="triton", **place)
        assert_like(found, run(margin, 300, x, y, kernels="reference", **place))
    x = x.T.contiguous().T  # as it may come from a backbone
    twice = [run(CosFace(32.0, 0.2), 300, x, y, kernels="triton", device=device) for _ in range(2)]
    assert twice[0][0] == twice[1][0], "the same bits"
    assert torch.equal(twice[0][2], twice[1][2]), "the same bits"
    assert_like(twice[0], run(CosFace(32.0, 0.2), 300, x, y, kernels="reference", device=device))


def check_selections(device: str) -> None:
    # The first batch has drawn 3 classes or so of 300: most blocks are masked when its part is made again.
    x, y = (tensor.to(device) for tensor in data(3, 300))
    results = []
    for kernels in ("reference", "triton"):
        head = PartialFC(300, 16, CosFace(32.0, 0.2), sample_rate=0.01, kernels=kernels, device=device)
        head.local_weight.mul_(10)
        for rate in (0.01, 1.0):
            head.sample_rate = rate
            head(x.clone().requires_grad_(), y).backward()
        head.step(0.1)
        results.append(head.local_weight)
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)


def check_extremes(device: str) -> None:
    # Blocks whose logits lie up to 2,000 apart, saturated losses, lengths at the ends of float32.
    weight, near = made(torch.float32, 5, (300, 16)), made(torch.float32, 6, (64, 16)) * 0.3
    one, other = weight[0].clone(), weight[1].clone()
    weight[:64], weight[64:128], weight[200:264] = near + one, near - one, near + other
    weight[130], weight[131] = 0.0, 1e-30
    weight[132:136] *= torch.tensor([1e30, 1e-15, 1e18, 1e-18])[:, None]
    x = torch.stack([near[0] + one, -one, weight[210], weight[140], torch.zeros(16), 1e20 * one]).to(device)
    y = torch.tensor([64, 64, 250, 140, 3, -1], device=device)
    for scale in (1.0, 1000.0):
        results = []
        for kernels in ("reference", "triton"):
            head = PartialFC(300, 16, CosFace(scale, 0.0), kernels=kernels, device=device)
            head.local_weight.copy_(weight)
            own = x.clone().requires_grad_()
            loss = head(own, y)
            loss.backward()
            head.step(1.0)
            assert own.grad is not None
            assert head.local_weight.isfinite().all()
            moved = head.local_weight - weight.to(device)
            moved[132:136] = 0.0  # by less than their last digit, or beyond all
            results.append((loss.detach(), own.grad, moved))
        for found, expected in zip(*results, strict=True):
            assert ((found - expected).norm() / expected.norm()).item() < 1e-4


def check_nothing(device: str) -> None:
    head = PartialFC(70, 16, CosFace(), kernels="triton", device=device)
    x = torch.zeros(0, 16, device=device, requires_grad=True)
    loss = head(x, torch.zeros(0, dtype=torch.int64, device=device))
    loss.backward()
    expected = head.local_weight * (1 - 0.1 * 5e-4)
    head.step(0.1)
    assert loss.item() == 0.0
    torch.testing.assert_close(head.local_weight, expected)  # by weight decay alone
    x, y = (tensor.to(device) for tensor in data(5, 70))
    with torch.no_grad():
        head.local_weight[69] = torch.nan
        assert head(x, y.clamp_max(60)).isnan()


def check_workspace(device: str) -> None:
    from partial_fc.kernels.triton_kernels import _chunk

    x, y = (tensor.to(device) for tensor in data(24, 300))
    chunk = _chunk(300, 24, 16)
    for dtype in DTYPES:
        # Exponentials, maxima, 1/‖w‖; and of a chunk the gradient and the centres to multiply.
        needed = 300 * 24 * dtype.itemsize + 5 * 24 * 4 + 300 * 4 + chunk * 16 * (4 + dtype.itemsize)
        for bytes_given in (needed + 16, needed - 16):
            head = PartialFC(
                300, 16, CosFace(), compute_dtype=dtype, kernels="triton", device=device,
                workspace_mib=bytes_given / 2**20,
            )  # fmt: skip
            loss = head(x.clone().requires_grad_(), y)
            is_kept = loss.grad_fn.done[0].passed.kept is not None  # type: ignore[union-attr]
            assert is_kept == (bytes_given > needed)


def check_rows(device: str) -> None:
    from partial_fc.kernels import rows_torch, rows_triton

    weight = made(torch.float32, 0).to(device)
    weight[3] *= 1e30
    weight[6] *= 1e-18
    weight[2], weight[5, 3], weight[7, 0] = 0.0, torch.nan, torch.inf
    # Ties go to the even neighbour, the largest mantissa carries over.
    ties = torch.tensor([0x3F808000, 0x3F818000, 0x3FFF8000, 0x3F7FFFFF, 0x3F808001], dtype=torch.int32)
    weight[0, :5] = ties.view(torch.float32).to(device)
    for rows in (ROWS[0], ROWS[1].to(device), slice(0, 10)):
        results = []
        for module in (rows_triton, rows_torch):
            count = weight[rows].shape[0]
            inverse = torch.empty(count, device=device)
            rounded = torch.empty(count, 37, dtype=torch.bfloat16, device=device)
            module.inverse_norms_and_round(weight, rows, inverse, rounded)
            results.append((inverse, rounded))
        (found, found_rounded), (expected, expected_rounded) = results
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0.0)
        torch.testing.assert_close(found_rounded, expected_rounded, rtol=0.0, atol=0.0, equal_nan=True)
        for moment in DTYPES:
            for gradient in DTYPES:
                for limit, normalised in ((float("inf"), True), (3.0, True), (3.0, False)):
                    updated = [
                        _updated(module, rows, moment, gradient, limit, normalised, device)
                        for module in (rows_triton, rows_torch)
                    ]
                    for one, other in zip(*updated, strict=True):
                        close(one, other)


def _updated(
    module: Any,
    rows: Any,
    moment: torch.dtype,
    gradient: torch.dtype,
    limit: float,
    normalised: bool,
    device: str,
) -> list[Tensor]:
    weight, first, second = (
        made(dtype, seed).to(device) for seed, dtype in enumerate((torch.float32, moment, moment), start=1)
    )
    second.abs_()
    g = made(gradient, 4, (weight[rows].shape[0], 37)).to(device)
    inverse = torch.empty(len(g), device=device) if normalised else None
    if inverse is not None:
        module.inverse_norms(weight, rows, inverse)
    module.sgd(weight, first, rows, g, inverse, 0.1, 0.9, 5e-4, limit)
    after_sgd = [weight.clone(), first.clone()]
    module.adamw(weight, first, second, rows, g, inverse, 0.01, (0.9, 0.99), 1e-8, 0.05, 3, limit)
    return [*after_sgd, weight, first, second]


def check_all(device: str) -> None:
    check_rows(device)
    check_scenarios(device)
    check_selections(device)
    check_extremes(device)
    check_nothing(device)
    check_workspace(device)
