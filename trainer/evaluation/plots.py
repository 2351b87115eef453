"""Pictures of verification results: the ROC on a logarithmic FAR axis, the scores of both kinds of pair."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainer.evaluation.files import replacing
from trainer.evaluation.verification import VerificationResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers too; the darkest first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, GREY, GRID = "#1f2933", "#7b8794", "#e4e7eb"
DIFFERENT, SAME = "#D55E00", "#0072B2"


def plot_roc(
    curves: Mapping[str, VerificationResult], path: Path, title: str, *, faint: tuple[str, ...] = ()
) -> None:
    """Write one PNG with the ROC of every result, its name and AUC in the legend.

    A curve is a staircase: at x stands the largest TAR whose FAR is at most x. It starts at one over its
    number of different pairs, the smallest FAR that they can show. ``faint``: names drawn grey and dashed,
    such as the untrained network's.
    """
    figure, axes = _figure(title)
    shown = {name: result for name, result in curves.items() if name not in faint}
    left = min(1 / max(2, result.different_pairs) for result in curves.values())
    for number, (name, result) in enumerate({**shown, **dict(curves)}.items()):
        secondary = name in faint
        far, tar = _staircase(result)
        axes.plot(
            far,
            tar,
            drawstyle="steps-post",
            label=f"{name}   AUC {result.auc:.4f}",
            color=GREY if secondary else COLOURS[number % len(COLOURS)],
            linestyle=(0, (4, 2)) if secondary else _dash(number),
            linewidth=1.6 if secondary else 2.2,
            solid_capstyle="butt",
            zorder=2 if secondary else 3,
        )
    chance = np.geomspace(left, 1, 200)
    axes.plot(chance, chance, color=GREY, linewidth=1, linestyle=":", label="chance   AUC 0.5000", zorder=1)
    axes.set_xscale("log")
    axes.set_xlim(left, 1)
    axes.set_ylim(0, 1.01)
    axes.yaxis.set_major_formatter("{x:.1f}")
    axes.set_xlabel("False acceptance rate (different pairs taken for the same person)")
    axes.set_ylabel("True acceptance rate")
    _legend_below(figure, columns=3 if len(curves) == 2 else 2)
    _save(figure, path)


def plot_scores(result: VerificationResult, path: Path, title: str) -> bool:
    """Write one PNG with the histograms of the cosines of same and of different pairs and the threshold.

    Returns False, and writes nothing, when the result holds no scores (it was read back from JSON).
    """
    if result.same_scores is None or result.different_scores is None:
        return False
    figure, axes = _figure(title)
    scores = np.concatenate((result.same_scores, result.different_scores))
    low, high = float(scores.min()), float(scores.max())
    room = max(0.02, 0.02 * (high - low))
    bins = np.linspace(low - room, high + room, int(np.clip(np.sqrt(scores.size), 20, 70)) + 1)
    for values, colour, kind in (
        (result.different_scores, DIFFERENT, "different people"),
        (result.same_scores, SAME, "same person"),
    ):
        label = f"{kind}: {values.size:,} pairs, mean {values.mean():.3f}"
        axes.hist(values, bins=bins.tolist(), color=colour, alpha=0.35)
        axes.hist(values, bins=bins.tolist(), color=colour, histtype="step", linewidth=1.8, label=label)
    threshold = float(np.mean(result.thresholds))
    if bins[0] < threshold < bins[-1]:
        label = f"threshold {threshold:.3f}, mean of {len(result.thresholds)} folds"
        axes.axvline(threshold, color=INK, linewidth=1.4, linestyle="--", label=label)
    axes.set_xlabel("Cosine of the two embeddings")
    axes.set_ylabel("Pairs")
    _legend_below(figure, columns=2)
    _save(figure, path)
    return True


def _staircase(result: VerificationResult) -> tuple[np.ndarray, np.ndarray]:
    """The highest TAR at each FAR that is met, from the smallest FAR that can be told from zero."""
    smallest = 1 / max(2, result.different_pairs)
    far, last = np.unique(result.roc_far[::-1], return_index=True)
    tar = result.roc_tar[::-1][last]  # of points with one FAR the last one has the highest TAR
    at_start = tar[np.searchsorted(far, smallest * (1 + 1e-9), side="right") - 1]
    beyond = far > smallest * (1 + 1e-9)
    return np.concatenate(([smallest], far[beyond])), np.concatenate(([at_start], tar[beyond]))


def _dash(number: int) -> str | tuple[int, tuple[int, ...]]:
    """Solid for the first colours; a dash pattern once colours repeat."""
    return "-" if number < len(COLOURS) else (0, (6, 2, 1, 2))


def _figure(title: str) -> tuple[Figure, Axes]:
    # Not pyplot: it keeps figures and a global state, and would look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 4.9), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=12.5, color=INK, pad=12, fontweight="bold", parse_math=False)
    axes.grid(True, which="major", color=GRID, linewidth=0.9)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    axes.tick_params(which="both", colors=INK, labelcolor=INK, labelsize=9.5)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    return figure, axes


def _legend_below(figure: Figure, columns: int) -> None:
    # Outside the axes: inside, some curve always runs under it.
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=9.5, labelcolor=INK)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary, temporary.open("wb") as stream:
        figure.savefig(stream, format="png", metadata={"Software": "cosface"})
