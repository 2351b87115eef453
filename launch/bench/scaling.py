"""How the head's cost grows: what a class costs beside the fixed part, and which limit a large job meets."""

from __future__ import annotations

from itertools import groupby
from statistics import median

import numpy as np

from launch.bench.row import Row
from launch.bench.show import wire_seconds

LEAST_SIZES = 3


def show_scaling(rows: list[Row]) -> None:
    """Print, for what was measured at several sizes, a step as a fixed part and a cost per class.

    A shared machine is faster at one size than at another: each step is taken as if the floor, which is
    measured beside it, had cost the same per class at all sizes.
    """
    measured = sorted((row for row in rows if row.measured), key=lambda row: row.case.name)
    for name, group in groupby(measured, key=lambda row: row.case.name):
        found = [(row.case.classes, row.measured) for row in group if row.measured]
        speed = median(one.floor_s / classes for classes, one in found)
        points = [(classes, one.step_s * speed * classes / one.floor_s) for classes, one in found]
        if len({classes for classes, _ in points}) >= LEAST_SIZES:
            fixed, slope, least, most = growth(points)
            print(
                f"{name}: {1e3 * fixed:.1f} ms and {1e9 * slope:,.0f} ns a class; beyond the fixed part "
                f"a class costs {least:.0%} to {most:.0%} of that at these sizes"
            )


def growth(points: list[tuple[int, float]]) -> tuple[float, float, float, float]:
    """(classes, seconds) to fixed seconds, seconds a class, least and largest (t − fixed) / (c·slope).

    Of the line with the least squares of relative errors, so that small sizes count as much as large ones.
    """
    classes, seconds = np.array(points, dtype=float).T
    design = np.stack((np.ones_like(classes), classes), axis=1) / seconds[:, None]
    (fixed, slope), *_ = np.linalg.lstsq(design, np.ones_like(seconds), rcond=None)
    if fixed < 0:  # noise: then a class costs what fits best without a fixed part
        fixed, slope = 0.0, (classes / seconds).sum() / ((classes / seconds) ** 2).sum()
    each = (seconds - fixed) / (classes * slope)
    return float(fixed), float(slope), float(each.min()), float(each.max())


def show_limits(rows: list[Row], bandwidth_gbit: float, latency_us: float) -> None:
    """Print what one rank's step cannot go below, limit by limit, and where the limits meet."""
    for row in rows:
        if row.measured is None:
            continue
        case, found = row.case, row.measured
        products = found.floor_s * (1 if case.keeps else 4 / 3)
        wire = wire_seconds(found.wire_bytes, bandwidth_gbit, latency_us)
        images = case.batch_size * case.shared_by
        count = "three" if case.keeps else "four"
        print(
            f"{case.name}, {case.classes:,} classes, one rank of {case.shared_by:,}, {images:,} images: "
            f"products {products:.2f} s ({count}), memory {found.memory_s:.2f} s, "
            f"wire {wire:.3f} s, measured {found.step_s:.2f} s; the wire takes as long as the products at "
            f"{found.wire_bytes * 8e-9 / products:.2g} Gbit/s, memory at "
            f"{images * found.memory_s / products:,.0f} images"
        )
