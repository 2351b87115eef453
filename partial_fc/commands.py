"""The classifier's command: `cosface advise`."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partial_fc.errors import HeadInputError

if TYPE_CHECKING:
    from partial_fc.bounds import Advice


@dataclass(frozen=True, kw_only=True)
class AdviseOptions:
    """Prints which margins and scales can work for a number of classes, and recommends a pair."""

    classes: int
    """Identities that are trained on."""
    embedding_dim: int
    """Numbers in an embedding."""
    target_probability: float = 0.9
    """The posterior of its own class that an image should reach."""
    margin: float | None = None
    """A run's margin, to be held against the theory."""
    scale: float | None = None
    """A run's scale, to be held against the theory."""
    json: Path | None = None
    """Write the numbers to this file, as JSON."""

    def __post_init__(self) -> None:
        if not 1 <= self.classes < 1 << 63:
            raise ValueError(f"classes must be at least 1 and below 2^63, got {self.classes}")
        if self.embedding_dim < 1:
            raise ValueError(f"embedding_dim must be 1 or more, got {self.embedding_dim}")
        if not 0 < self.target_probability < 1:
            raise ValueError(
                f"target_probability must be above 0 and below 1, got {self.target_probability:g}"
            )
        if self.margin is not None and not 0 <= self.margin < math.inf:
            raise ValueError(f"margin must be a finite number of at least 0, got {self.margin:g}")
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be a finite number above 0, got {self.scale:g}")


def advise(options: AdviseOptions) -> int:
    """`cosface advise`: 0, with warnings too. Raises HeadInputError if the file cannot be written."""
    from partial_fc.bounds import advice

    found = advice(
        options.classes,
        options.embedding_dim,
        scale=options.scale,
        margin=options.margin,
        target_probability=options.target_probability,
    )
    print(render(found))
    if options.json is not None:
        try:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(to_json(found), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise HeadInputError(f"{options.json}: cannot be written: {error.strerror}") from None
    return 0


def render(found: Advice) -> str:
    """The advice as a table, sentences and warnings, one a line."""
    bound = found.largest_margin
    exact = bound.kind == "exact"
    with_margin = found.recommended_margin if found.margin is None else found.margin
    at_margin = f"at margin {with_margin:g}"
    wanted = f"for a posterior of {found.target_probability:g}"
    rows = [
        ("margin, at most", bound.value, "the largest" if exact else "surely no more; perhaps less"),
        *([] if exact else [("  surely possible", bound.reachable, "perhaps more")]),
        ("scale, at least", found.smallest_scale, wanted),
        ("  with the margin", found.smallest_scale_with_margin, f"{wanted} in the loss, {at_margin}"),
        ("recommended margin", found.recommended_margin, "half of the first row, 0.35 at most"),
        ("recommended scale", found.recommended_scale, "twice the least with that margin"),
    ]
    classes, dim = found.num_classes, found.embedding_dim
    plural = "class" if classes == 1 else "classes", "dimension" if dim == 1 else "dimensions"
    lines = [f"{classes:,} {plural[0]}, {dim:,} {plural[1]}", ""]
    lines += [f"  {name:20}{_number(value):>10}   {what}" for name, value, what in rows]
    lines += ["", f"Margin: {bound.reason}."]
    if found.scale is not None or found.margin is not None:
        scale = found.recommended_scale if found.scale is None else found.scale
        lines.append(
            f"With scale {scale:g} and margin {with_margin:g} the loss sees a posterior of at most "
            f"{_number(found.ideal_posterior)}."
        )
    if found.margin is not None and bound.reachable < found.margin <= bound.value:
        lines.append(
            f"Whether all classes can keep a margin of {found.margin:g} is open: "
            f"{_number(bound.reachable)} is possible, more than {_number(bound.value)} is not."
        )
    lines += [f"warning: {warning}" for warning in found.warnings]
    return "\n".join(lines)


def to_json(found: Advice) -> dict[str, Any]:
    """The advice's fields; null for what was not given and for a scale that does not exist."""
    fields = dataclasses.asdict(found)
    if math.isinf(found.smallest_scale_with_margin):
        fields["smallest_scale_with_margin"] = None
    return fields


def _number(value: float) -> str:
    """Four digits, none of them rounded up to a round 1."""
    if 0.9999 < value < 1:
        return f"1 - {1 - value:.1e}"
    return "none" if math.isinf(value) else f"{value:.4g}"
