"""The losses: each a small class that says what is special about it, and nothing else (see base.py)."""

from __future__ import annotations

import difflib

from partial_fc.errors import HeadInputError, shown
from partial_fc.margins.adaptive import AdaFace, CurricularFace, MagFace
from partial_fc.margins.additive import (
    ArcFace,
    CombinedMargin,
    CosFace,
    ElasticFace,
    NormalizedSoftmax,
    Softmax,
)
from partial_fc.margins.base import CosineMargin, Facts, Margin, Targets
from partial_fc.margins.multiplicative import LSoftmax, SphereFace, SphereFaceNormFea
from partial_fc.margins.options import Option, options_of

MARGINS: dict[str, type[Margin]] = {
    kind.__name__.lower(): kind
    for kind in (
        Softmax,
        NormalizedSoftmax,
        CosFace,
        ArcFace,
        SphereFace,
        SphereFaceNormFea,
        LSoftmax,
        CombinedMargin,
        CurricularFace,
        AdaFace,
        MagFace,
        ElasticFace,
    )
}
"""Every margin by its name in lower case."""


def make_margin(name: str, **options: object) -> Margin:
    """A margin by its name in lower case, with options as its class has them; None keeps the default.

    Raises HeadInputError for an unknown name or option, naming the nearest, and for a value out of range.
    """
    if not isinstance(name, str):
        raise HeadInputError(f"a loss's name is expected, such as 'cosface', got {shown(name)}")
    if name not in MARGINS:
        close = difflib.get_close_matches(name.lower(), MARGINS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(MARGINS))}"
        raise HeadInputError(f"unknown loss {name!r}: {hint}")
    kind = MARGINS[name]
    given = {option: value for option, value in options.items() if value is not None}
    known = options_of(kind)
    for option in given:
        if option not in known:
            nearest = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"it has {', '.join(known)}"
            raise HeadInputError(f"{kind.__name__} has no option {option}: {hint}")
    return kind(**given)  # type: ignore[arg-type]


__all__ = [
    "MARGINS",
    "AdaFace",
    "ArcFace",
    "CombinedMargin",
    "CosFace",
    "CosineMargin",
    "CurricularFace",
    "ElasticFace",
    "Facts",
    "LSoftmax",
    "MagFace",
    "Margin",
    "NormalizedSoftmax",
    "Option",
    "Softmax",
    "SphereFace",
    "SphereFaceNormFea",
    "Targets",
    "make_margin",
    "options_of",
]
