"""The optimisers of the class centres, applied to one tile of rows at a time: torch's own formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import torch
from torch import Tensor

from partial_fc.errors import number, require, shown

Moments = dict[str, Tensor]
Move = Callable[[ModuleType, Tensor, Moments, slice | Tensor, Tensor, Tensor | None], None]
"""Moves rows: (row functions, weight, moments, which rows, their gradient, their 1/‖w‖ if normalised)."""


@dataclass(frozen=True)
class Optimiser:
    """The base: what is remembered of every centre, and how it moves."""

    moments: ClassVar[tuple[str, ...]] = ()
    exact_moments: ClassVar[tuple[str, ...]] = ()
    """Those that are float32 whatever is asked for."""

    weight_decay: float = 5e-4
    row_limit: float = math.inf
    """The largest norm of a centre's gradient; a longer one is shortened to it."""

    def __post_init__(self) -> None:
        for name in ("weight_decay", "row_limit"):
            number(name, "a number", getattr(self, name))
        require(0 <= self.weight_decay < math.inf, "weight_decay", "at least 0", self.weight_decay)
        require(self.row_limit > 0, "row_limit", "above 0", self.row_limit)

    def first_moments(self, rows: Tensor, dtype: torch.dtype) -> Moments:
        """What is remembered of rows before the first step: zeros of their shape, of this type."""
        dtypes = {name: torch.float32 if name in self.exact_moments else dtype for name in self.moments}
        return {name: torch.zeros_like(rows, dtype=one) for name, one in dtypes.items()}

    def move(
        self,
        functions: ModuleType,
        weight: Tensor,
        moments: Moments,
        rows: slice | Tensor,
        gradient: Tensor,
        inverse: Tensor | None,
        *,
        lr: float,
        step: int,
    ) -> None:
        """Move rows as a Move does, at a learning rate. step: from 1."""
        raise NotImplementedError


@dataclass(frozen=True)
class SGD(Optimiser):
    """torch.optim.SGD: v = momentum·v + g + weight_decay·w; w −= lr·v."""

    moments: ClassVar[tuple[str, ...]] = ("momentum",)

    momentum: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        number("momentum", "a number", self.momentum)
        require(0 <= self.momentum < 1, "momentum", "in [0, 1)", self.momentum)

    def move(
        self,
        functions: ModuleType,
        weight: Tensor,
        moments: Moments,
        rows: slice | Tensor,
        gradient: Tensor,
        inverse: Tensor | None,
        *,
        lr: float,
        step: int,
    ) -> None:
        """See Optimiser."""
        velocity, decay = moments["momentum"], self.weight_decay
        functions.sgd(weight, velocity, rows, gradient, inverse, lr, self.momentum, decay, self.row_limit)


@dataclass(frozen=True)
class AdamW(Optimiser):
    """torch.optim.AdamW; a centre that is not drawn keeps its moments, the step counts for all.

    So a centre that is drawn late moves further at first than torch would move it.
    """

    moments: ClassVar[tuple[str, ...]] = ("mean", "square")
    # 0.999 v is v again in bfloat16: it could rise but never fall.
    exact_moments: ClassVar[tuple[str, ...]] = ("square",)

    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        is_pair = isinstance(self.betas, tuple | list) and len(self.betas) == 2
        require(is_pair, "betas", "two numbers in [0, 1)", shown(self.betas))
        for beta in self.betas:
            number("betas", "two numbers in [0, 1)", beta)
        require(all(0 <= beta < 1 for beta in self.betas), "betas", "in [0, 1)", self.betas)
        number("epsilon", "a number", self.epsilon)
        require(self.epsilon > 0, "epsilon", "above 0", self.epsilon)

    def move(
        self,
        functions: ModuleType,
        weight: Tensor,
        moments: Moments,
        rows: slice | Tensor,
        gradient: Tensor,
        inverse: Tensor | None,
        *,
        lr: float,
        step: int,
    ) -> None:
        """See Optimiser."""
        functions.adamw(
            weight,
            moments["mean"],
            moments["square"],
            rows,
            gradient,
            inverse,
            lr,
            self.betas,
            self.epsilon,
            self.weight_decay,
            step,
            self.row_limit,
        )
