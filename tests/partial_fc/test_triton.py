"""The Triton kernels: interpreted on a CPU, compiled without a GPU, and run on one if there is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from partial_fc import CosFace, PartialFC, Softmax
from partial_fc.errors import HeadInputError
from partial_fc.kernels import make_kernels
from tests.partial_fc.test_exactness import (
    MARGINS,
    SHAPES,
    SMOOTH,
    STEPS,
    assert_close,
    assert_exact,
    make_case,
    train,
)
from tests.partial_fc.triton_checks import check_all
from tests.ranks import run_ranks
from tests.waiting import patience_s

BLOCKS = (300, 20, (4, 4))
"""Several blocks of classes, in two chunks; a dim that is no power of 2."""
SMALL_CHUNK = 1 << 12
OPTIONS = [{"kernels": "triton"}, {"kernels": "triton", "workspace_mib": 0.0}]
BFLOAT16: dict[str, Any] = {"kernels": "triton", "compute_dtype": torch.bfloat16}


Call = tuple[Callable[..., Any], tuple[Any, ...]]


def interpreted(world_size: int, *calls: Call) -> list[list[Any]]:
    """What functions return on each rank, in processes that interpret kernels; this one compiles them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        return run_ranks(world_size, in_small_chunks, calls, deadline_s=patience_s(240))


def in_small_chunks(calls: tuple[Call, ...]) -> list[Any]:
    """For a process that is interpreted."""
    from partial_fc.kernels import triton_kernels

    triton_kernels.CHUNK_NUMBERS = SMALL_CHUNK
    return [function(*arguments) for function, arguments in calls]


@pytest.mark.triton
@pytest.mark.parametrize("world_size", [1, 2])
def test_every_margin_is_the_definition(world_size: int) -> None:
    few = [CosFace(64.0, 0.35), Softmax()]
    pairs = [(margin, SHAPES[0]) for margin in MARGINS]
    pairs += [(margin, shape) for margin in few for shape in (BLOCKS, SHAPES[1], SHAPES[3])]
    exact = [make_case(margin, one, shape, world_size) for margin, shape in pairs for one in OPTIONS]
    shape = (150, 128, (16, 16))
    again = BFLOAT16 | {"workspace_mib": 0.0, "moment_dtype": torch.bfloat16}
    close = [make_case(margin, BFLOAT16, shape, world_size) for margin in SMOOTH]
    close += [make_case(margin, again, shape, world_size) for margin in few]
    by_rank = interpreted(world_size, (train, (exact, STEPS)), (train, (close, 1)))
    assert_exact(exact, [results[0] for results in by_rank])
    assert_close(close, [results[1] for results in by_rank])


@pytest.mark.triton
def test_all_else_is_as_the_reference() -> None:
    interpreted(1, (check_all, ("cpu",)))


@pytest.mark.triton
@pytest.mark.gpu
def test_the_same_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("partial_fc.kernels.triton_kernels.CHUNK_NUMBERS", SMALL_CHUNK)
    check_all("cuda")
    exact = [
        make_case(margin, options | {"device": "cuda"}, shape, 1)
        for margin in MARGINS
        for options in OPTIONS
        for shape in (SHAPES[0], BLOCKS)
    ]
    assert_exact(exact, [train(exact, STEPS)])
    close = [make_case(margin, BFLOAT16 | {"device": "cuda"}, (150, 128, (16,)), 1) for margin in SMOOTH]
    assert_close(close, [train(close, 1)])


@pytest.mark.triton
@pytest.mark.parametrize(("dtype", "bare"), [("bf16", False), ("fp32", True)])
def test_they_compile_for_a_gpu_that_is_not_here(
    dtype: str, bare: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The interpreter takes more than the compiler does. 99 KiB is what smaller GPUs let a program share.
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from partial_fc.kernels import rows_triton, triton_products

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    constants: dict[str, Any] = dict.fromkeys(("BLOCK_C", "BLOCK_I", "BLOCK_D"), 64)
    constants |= {"BLOCKS": 3, "BLOCK_R": 2, "DIM": 50, "ADDS": not bare, "LIMITED": not bare}
    if bare:  # what is not there, and a size of 1, are constants as well
        constants |= dict.fromkeys(("inverse", "bias", "undrawn", "bias_gradient", "numbers", "taken"))
        constants |= dict.fromkeys(("images", "classes", "count"), 1)
    types = dict.fromkeys(("inputs", "centres", "factors", "momentum", "first", "taken"), f"*{dtype}")
    types |= {"targets": "*i64", "numbers": "*i64", "undrawn": "*u1"}
    types |= dict.fromkeys(("images", "classes", "count", "first_class"), "i32")
    rates = ("lr", "keeps", "weight_decay", "limit", "beta_1", "beta_2", "rest_1", "rest_2")
    types |= dict.fromkeys((*rates, "epsilon", "rate", "correction"), "fp32")
    kernels = [getattr(triton_products, name) for name in ("_exponentials", "_weigh", "_pull")]
    kernels += [getattr(rows_triton, name) for name in ("_inverse_norms", "_sgd", "_adamw")]
    for kernel in kernels:
        names = kernel.arg_names
        signature = {name: "constexpr" if name in constants else types.get(name, "*fp32") for name in names}
        given = {(place,): constants[name] for place, name in enumerate(names) if name in constants}
        compiled = compile(ASTSource(kernel, signature, given), target=GPUTarget("cuda", 90, 32))
        assert compiled.metadata.shared < 99 * 1024


@pytest.mark.triton
def test_they_need_a_gpu_or_the_interpreter() -> None:
    with pytest.raises(HeadInputError, match="'triton' needs a CUDA device, got cpu"):
        PartialFC(10, 4, CosFace(), kernels="triton")


@pytest.mark.triton
def test_a_gpu_gets_them_unasked() -> None:
    from partial_fc.kernels.triton_kernels import TritonKernels

    assert isinstance(make_kernels("auto", torch.float32, 0, torch.device("cuda")), TritonKernels)
    assert not isinstance(make_kernels("auto", torch.float32, 0, torch.device("cpu")), TritonKernels)


def test_without_triton_auto_does_without_and_the_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from partial_fc.kernels.tiles import TileKernels

    monkeypatch.setitem(sys.modules, "partial_fc.kernels.triton_kernels", None)
    assert isinstance(make_kernels("auto", torch.float32, 0, torch.device("cuda")), TileKernels)
    with pytest.raises(HeadInputError, match="needs the package triton, which is not installed: pip install"):
        make_kernels("triton", torch.float32, 0, torch.device("cuda"))
