"""What theory says of CosFace's scale s and margin m for C classes in D dimensions (Wang et al., CVPR 2018).

All embeddings x and class centres w are unit vectors; the loss of an image of class i is
ln(1 + Σ_{j≠i} exp(s (x·w_j − x·w_i + m))), and the posterior that training sees is exp(−loss).
Both bounds come from one question: how far apart can C directions in D dimensions be?
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from scipy.special import expit

from partial_fc.errors import require
from partial_fc.packing import (
    circle_margin,
    code_cosine,
    disjoint_caps_margin,
    greedy_margin,
    levenshtein_cosine,
    simplex_margin,
)

USUAL_MARGIN = 0.35
"""The paper's margin for faces; `advice` recommends no larger one."""


@dataclass(frozen=True)
class MarginBound:
    """The largest margin that all classes can keep at once, as far as it is known."""

    value: float
    """No arrangement of the centres keeps a larger margin."""
    reachable: float
    """Some arrangement surely keeps this one; the same as `value` where that is exact."""
    kind: Literal["exact", "upper bound"]
    """Whether `value` is the largest margin itself, or only bounds it from above."""
    reason: str
    """Where the numbers come from, in words."""


def smallest_scale(num_classes: int, target_probability: float, margin: float = 0.0) -> float:
    """The scale below which the classes' images cannot all have the posterior P = target_probability.

    Let S = Σ w_j. ln(1 + Σ exp) is convex, so by Jensen the mean loss over the classes, an image x_i of
    each, is at least that of the mean exponent, which has by Cauchy and Schwarz a least value:

        1/(C(C−1)) Σ_i Σ_{j≠i} x_i·(w_j − w_i) = −1/(C(C−1)) Σ_i x_i·(C w_i − S) ≥ −C/(C−1),
            as Σ_i ‖C w_i − S‖² = C³ − C ‖S‖² ≤ C³;
        mean loss ≥ ln(1 + (C−1) exp(−s (C/(C−1) − m))), equal for x_i = w_i on a regular simplex (C ≤ D + 1).

    The loss of a posterior P is −ln P, and therefore, whatever D is, with m = 0 the paper's bound:

        s ≥ ln((C−1) P/(1−P)) / (C/(C−1) − m)              m = 0:  s ≥ (C−1)/C · ln((C−1) P/(1−P)).

    For C > D + 1 it stays a bound, but no arrangement reaches it. 0 where any small scale does (P ≤ 1/C, one
    class); infinite where P > 1/C and m ≥ C/(C−1). margin: of the posterior that is wanted; 0 is that of
    the images, CosFace's m that of the loss. Source: Wang et al. 2018, for x_i = w_i; the proof above needs
    no such thing. Raises HeadInputError for a num_classes outside [1, 2^63), a probability outside (0, 1),
    a negative or infinite margin.
    """
    _check(num_classes=num_classes, target_probability=target_probability, margin=margin)
    if num_classes == 1:
        return 0.0
    log_odds = math.log(num_classes - 1) + math.log(target_probability) - math.log1p(-target_probability)
    if log_odds <= 0:
        return 0.0
    room = simplex_margin(num_classes) - margin
    return log_odds / room if room > 0 else math.inf


def ideal_posterior(num_classes: int, scale: float, margin: float) -> float:
    """The posterior, margin included, that no training exceeds: 1 / (1 + (C−1) exp(−s (C/(C−1) − m))).

    Exactly: the geometric mean over the classes of what the loss sees, for any D, any centres and images
    (`smallest_scale` has the proof), so the loss of balanced classes stays above −ln of it. It is reached
    by images on the centres of a regular simplex, C ≤ D + 1. In [0, 1]; 1 for one class. Raises
    HeadInputError for a num_classes outside [1, 2^63), a scale not above 0, a negative or infinite margin.
    """
    _check(num_classes=num_classes, scale=scale, margin=margin)
    if num_classes == 1:
        return 1.0
    return float(expit(scale * (simplex_margin(num_classes) - margin) - math.log(num_classes - 1)))


def largest_margin(num_classes: int, embedding_dim: int) -> MarginBound:
    """The largest m with which an image on its own centre can still be classified right, for every class.

    x = w_i needs 1 − m ≥ w_i·w_j for all j ≠ i, so m ≤ 1 − max_{i≠j} w_i·w_j (Wang et al. 2018), and the
    largest m is that of the best C directions in D dimensions:

    - C ≤ D + 1: C/(C−1). Σ_{i≠j} w_i·w_j = ‖S‖² − C ≥ −C, so the largest of C(C−1) cosines is at least their
      mean, −1/(C−1); the regular simplex has no other. Exact.
    - D = 2: 1 − cos(2π/C). C angles between neighbours sum to 2π, the smallest is at most 2π/C. Exact.
    - D = 1: 0 for C > 2, there are two directions. Exact.
    - D + 2 ≤ C ≤ 2D: 1. More than D + 1 vectors cannot all be at obtuse angles (Rankin 1955), and ±axes are
      at right ones. Exact.
    - C > 2D ≥ 6: not known in general; the paper says m ≪ C/(C−1). The best of two upper bounds, both proven
      (packing.py: `levenshtein_cosine`, `disjoint_caps_margin`), and the best of three surely reached
      (`greedy_margin`, `code_cosine`, a circle). The largest margin lies between `reachable` and `value`.

    One class has no neighbour; 2, the largest difference of cosines, stands for "no bound". Raises
    HeadInputError for a num_classes outside [1, 2^63) or an embedding_dim below 1.
    """
    _check(num_classes=num_classes, embedding_dim=embedding_dim)
    if num_classes == 1:
        return _exact(2.0, "one class has no neighbour to keep away from")
    if num_classes <= embedding_dim + 1:
        return _exact(simplex_margin(num_classes), "C/(C − 1): the centres of a regular simplex, C ≤ D + 1")
    if embedding_dim == 1:
        return _exact(0.0, "one dimension has two directions, so two centres coincide")
    if embedding_dim == 2:
        return _exact(circle_margin(num_classes), "1 − cos(2π/C): equal angles on a circle")
    if num_classes <= 2 * embedding_dim:
        return _exact(1.0, "right angles: D + 2 to 2D centres cannot all be further apart, and ±axes are so")
    above = {
        "Levenshtein's bound": 1 - levenshtein_cosine(num_classes, embedding_dim),
        "caps around the centres that cannot overlap": disjoint_caps_margin(num_classes, embedding_dim),
    }
    below = {
        "a circle": circle_margin(num_classes),
        "centres placed one by one": greedy_margin(num_classes, embedding_dim),
        "a binary code": 1 - code_cosine(num_classes, embedding_dim),
    }
    upper, lower = min(above, key=above.__getitem__), max(below, key=below.__getitem__)
    # Where both are exact they may differ by a rounding.
    value = max(above[upper], below[lower])
    return MarginBound(
        value,
        below[lower],
        "upper bound",
        f"at most {value:.4g} by {upper}, at least {below[lower]:.4g} by {lower}",
    )


@dataclass(frozen=True)
class Advice:
    """What theory says of a run's scale and margin, and what to take instead."""

    num_classes: int
    embedding_dim: int
    target_probability: float
    scale: float | None
    """The run's; None: not stated, then nothing is said of it."""
    margin: float | None
    """The run's; None: not stated."""
    smallest_scale: float
    """For images to have the wanted posterior, the margin not counted (the paper's bound)."""
    smallest_scale_with_margin: float
    """For the loss to see it with the run's margin, or else with the recommended one."""
    largest_margin: MarginBound
    recommended_scale: float
    recommended_margin: float
    ideal_posterior: float
    """What the loss sees at the very best, with the run's values, or else the recommended ones."""
    warnings: list[str]
    """A sentence for each bound that the run breaks: by how much, and what to do."""


def advice(
    num_classes: int,
    embedding_dim: int,
    scale: float | None = None,
    margin: float | None = None,
    target_probability: float = 0.9,
) -> Advice:
    """Hold a run's scale and margin against the bounds and recommend a pair.

    Recommended, rules of thumb on top of the theory: m = half of the largest, so that an image may also leave
    its centre (and where that one is an upper bound, for what it may be too high), at most the paper's 0.35;
    s = twice the smallest scale with that m, so that an image
    half way from the margin's border to the ideal has the posterior P as well, rounded up.
    Raises HeadInputError as the functions above do.
    """
    bound = largest_margin(num_classes, embedding_dim)
    wanted_margin = min(USUAL_MARGIN, float(f"{bound.value / 2:.2g}"))
    with_wanted = smallest_scale(num_classes, target_probability, wanted_margin)
    wanted_scale = float(max(1, math.ceil(2 * with_wanted)))
    used_margin = wanted_margin if margin is None else margin
    used_scale = wanted_scale if scale is None else scale
    least = smallest_scale(num_classes, target_probability)
    with_margin = smallest_scale(num_classes, target_probability, used_margin)
    best = ideal_posterior(num_classes, used_scale, used_margin)

    warnings: list[str] = []
    classes = f"{num_classes:,} class{'es' if num_classes > 1 else ''}"
    where = f"{classes} in {embedding_dim:,} dimension{'s' if embedding_dim > 1 else ''}"
    too_large = margin is not None and margin > bound.value
    enough = wanted_scale if too_large else float(max(1, math.ceil(2 * with_margin)))
    if num_classes == 1:
        warnings.append("there is 1 class: its loss is always 0 and nothing is learned; give 2 or more")
    elif margin is not None and too_large:
        warnings.append(
            f"margin {margin:g} is {margin - bound.value:.3g} above {bound.value:.4g}, the most that {where} "
            f"can keep: some images are penalised wherever they lie; lower it to about {wanted_margin:g}"
        )
    if scale is not None and scale < least:
        warnings.append(
            f"scale {scale:g} is {least - scale:.3g} below {least:.4g}, the least with which images of "
            f"{classes} can have a posterior of {target_probability:g}: raise it to about {enough:g}"
        )
    elif scale is not None and margin is not None and not too_large and scale < with_margin:
        warnings.append(
            f"scale {scale:g} is {with_margin - scale:.3g} below {with_margin:.4g}, the least with which the "
            f"loss at margin {margin:g} can see a posterior of {target_probability:g} (at best {best:.3g} "
            f"now): raise it to about {enough:g}, or lower the margin"
        )
    return Advice(
        num_classes=num_classes,
        embedding_dim=embedding_dim,
        target_probability=target_probability,
        scale=scale,
        margin=margin,
        smallest_scale=least,
        smallest_scale_with_margin=with_margin,
        largest_margin=bound,
        recommended_scale=wanted_scale,
        recommended_margin=wanted_margin,
        ideal_posterior=best,
        warnings=warnings,
    )


def _exact(value: float, reason: str) -> MarginBound:
    return MarginBound(value, value, "exact", reason)


def _check(
    num_classes: int = 1,
    embedding_dim: int = 1,
    target_probability: float = 0.5,
    scale: float = 1.0,
    margin: float = 0.0,
) -> None:
    for holds, name, expected, found in (
        (1 <= num_classes < 1 << 63, "num_classes", "at least 1 and below 2^63", num_classes),
        (embedding_dim >= 1, "embedding_dim", "at least 1", embedding_dim),
        (0 < target_probability < 1, "target_probability", "above 0 and below 1", target_probability),
        (0 < scale < math.inf, "scale", "a finite number above 0", scale),
        (0 <= margin < math.inf, "margin", "a finite number of at least 0", margin),
    ):
        require(holds, name, expected, found)
