"""The table and the picture of `cosface bench head`."""

from __future__ import annotations

from pathlib import Path

from launch.bench.row import Row
from launch.errors import LaunchInputError

EXCHANGES = 5
"""Of a step: sizes, images, two of the softmax's merge, gradient."""


def show(rows: list[Row], bandwidth_gbit: float, latency_us: float) -> None:
    """Print a table; ratios are to the peer if it was measured, and to the floor."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    table.add_column("classifier", no_wrap=True)
    for name in ("classes", "step s", "× peer", "of floor", "extra MiB", "wire KiB", "wire ms", "loss"):
        table.add_column(name, justify="right", no_wrap=True)
    # The float32 peer is the one to compare with.
    peers = {
        row.case.classes: row.measured
        for row in rows
        if row.case.peer and row.case.dtype == "float32" and row.measured
    }
    for row in rows:
        case, found = row.case, row.measured
        if found is None:
            table.add_row(case.name, f"{case.classes:,}", "–")
            continue
        peer = peers.get(case.classes)
        wire_ms = 1e3 * wire_seconds(found.wire_bytes, bandwidth_gbit, latency_us)
        table.add_row(
            case.name,
            f"{case.classes:,}",
            f"{found.step_s:.3f}",
            f"{peer.step_s / found.step_s:.1f}" if peer else "–",
            f"{found.floor_s / found.step_s:.0%}",
            f"{found.extra_mib:,.0f}",
            f"{found.wire_bytes / 1024:,.1f}" if found.wire_bytes else "–",
            f"{wire_ms:.2f}" if found.wire_bytes else "–",
            "–" if case.of_ranks else f"{found.loss:.4f}",
        )
    console = Console(width=None if Console().is_terminal else 120)
    console.print(table)
    for row in rows:
        if row.problem:
            console.print(f"not measured: {row.case.name}: {row.problem}", highlight=False)
    first = rows[0].case
    shared = first.of_ranks or first.ranks
    least = (shared - 1) * first.batch_size * (8 * first.embedding_dim + 8 + 12)
    counted = rows[0].measured
    if counted and counted.wire_bytes and shared > 1:
        console.print(
            f"wire: {counted.wire_bytes / least:.3f} × the minimum (embeddings and labels gathered, "
            "3 numbers an image, gradients scattered, all float32)",
            highlight=False,
        )


def wire_seconds(sent_bytes: int, bandwidth_gbit: float, latency_us: float) -> float:
    """What a step's exchanges take on a network."""
    return sent_bytes * 8 / (bandwidth_gbit * 1e9) + EXCHANGES * latency_us * 1e-6


def plot(rows: list[Row], file: Path) -> None:
    """Seconds and memory against classes, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines: dict[str, list[tuple[int, float, float]]] = {}
    for row in rows:
        if row.measured and row.case.workspace_mib:
            point = (row.case.classes, row.measured.step_s, max(1.0, row.measured.extra_mib))
            lines.setdefault(row.case.name, []).append(point)
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.2))
    for name, points in lines.items():
        ordered = sorted(points)
        for place, axis in enumerate(axes, start=1):
            axis.loglog([one[0] for one in ordered], [one[place] for one in ordered], "o-", label=name)
    for axis, label in zip(axes, ("seconds a step", "MiB a rank beyond centres and momentum"), strict=True):
        axis.set_xlabel("classes")
        axis.set_ylabel(label)
        axis.grid(True, which="both", alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=110)
    except (OSError, ValueError) as error:
        raise LaunchInputError(f"--plot {file}: cannot be written: {error}") from None
    finally:
        pyplot.close(figure)
