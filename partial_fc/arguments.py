"""What the head is made of: each argument of the right type, or one sentence saying so."""

from __future__ import annotations

from typing import Any

import torch

from partial_fc.errors import HeadInputError, require, shown
from partial_fc.margins import MARGINS, Margin
from partial_fc.optim import Optimiser

DTYPES = (torch.float32, torch.bfloat16)


def check_margin(margin: Any) -> None:
    """Raise HeadInputError unless it is a margin: not a margin's class, nor its name."""
    hint = ""
    if isinstance(margin, type) and issubclass(margin, Margin):
        hint = f", of which {margin.__name__}() makes one"
    elif isinstance(margin, str) and margin.lower() in MARGINS:
        hint = f", of which make_margin({margin.lower()!r}) makes one"
    expected = "a margin such as CosFace(64.0, 0.35)"
    require(isinstance(margin, Margin), "margin", expected, shown(margin) + hint)


def check_optimiser(optimiser: Any) -> None:
    """Raise HeadInputError unless it is one of partial_fc.optim's, or None."""
    expected = "SGD(…), AdamW(…) or another Optimiser of partial_fc.optim"
    require(optimiser is None or isinstance(optimiser, Optimiser), "optimiser", expected, shown(optimiser))


def check_dtype(name: str, dtype: Any) -> None:
    """Raise HeadInputError unless it is one of the two types that the head computes and stores in."""
    found = dtype if isinstance(dtype, torch.dtype) else shown(dtype)
    require(dtype in DTYPES, name, "torch.float32 or torch.bfloat16", found)


def check_communicator(communicator: Any) -> None:
    """Raise HeadInputError unless it has what a Communicator has, or is None."""
    if communicator is None:
        return
    numbers = [getattr(communicator, name, None) for name in ("rank", "world_size")]
    calls = [getattr(communicator, name, None) for name in ("all_gather", "all_to_all")]
    fits = all(isinstance(number, int) for number in numbers) and all(map(callable, calls))
    fits = fits and not isinstance(communicator, type)
    expected = "a communicator such as TorchDistributed(group)"
    require(fits, "communicator", expected, shown(communicator))


def device_of(device: Any) -> torch.device:
    """The device. Raises HeadInputError if torch knows no such device or this machine has none."""
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        expected = "a device of torch such as 'cpu' or 'cuda:0'"
        raise HeadInputError(f"device must be {expected}, got {shown(device)}") from None
    if found.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        here = f"one of {count} CUDA devices" if count else "'cpu', as torch finds no CUDA device here"
        require((found.index or 0) < count, "device", here, found)
    return found
