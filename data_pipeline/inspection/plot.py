"""The picture of a set: images per identity, bytes per image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_pipeline.errors import DataInputError
from data_pipeline.inspection.report import DatasetReport


def plot(report: DatasetReport, file: Path) -> None:
    """Writes the picture, its format by the file's name. Raises DataInputError if it cannot be written."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lengths = report.lengths[report.lengths > 0] / 1024
    show_classes = report.pairs is None
    figure, axes = pyplot.subplots(
        1, 1 + show_classes, figsize=(5.5 * (1 + show_classes), 4.2), squeeze=False
    )
    if show_classes:
        axis, counts = axes[0, 0], report.class_counts
        largest = int(counts.max(initial=1))
        # One bar a number while they can be told apart, then ranges of equal width on a logarithmic axis.
        if largest <= 100:
            axis.hist(counts, bins=np.arange(largest + 2) - 0.5, color="#4878a8", rwidth=0.85)
        else:
            edges = np.unique(np.geomspace(1, largest + 1, 41).astype(int))
            axis.hist(counts[counts > 0], bins=edges - 0.5, color="#4878a8")
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter("{x:,.0f}")
        filled = counts[counts > 0]
        if len(filled):
            median = float(np.median(filled))
            axis.axvline(median, color="#c44e52", linestyle="--", linewidth=1.2, label=f"median {median:g}")
            axis.legend()
        empty = f", {len(report.empty_classes):,} without an image" if len(report.empty_classes) else ""
        axis.set_title(
            f"{report.num_images:,} images of {report.num_classes:,} identities{empty}", fontsize=10
        )
        axis.set_xlabel("images of an identity")
        axis.set_ylabel("identities")
    axis = axes[0, -1]
    axis.hist(lengths, bins=60, color="#6aa56e")
    axis.set_title(f"{len(lengths):,} images, {len(report.damaged):,} damaged", fontsize=10)
    axis.set_xlabel("KiB of an encoded image")
    axis.set_ylabel("images")
    for axis in axes[0]:
        axis.grid(True, alpha=0.3)
        axis.set_axisbelow(True)
    figure.suptitle(Path(report.name).name, fontsize=11)
    figure.tight_layout()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=110)
    except (OSError, ValueError) as error:
        raise DataInputError(f"--plot {file}: cannot be written: {error}") from None
    finally:
        pyplot.close(figure)
