"""`cosface bench head`: step time, memory and bytes of the head beside what else there is, in one run.

The floor is the step's three matrix products alone, with the best tile, measured in the same processes just
before. Ratios to it can be compared between machines and days, seconds cannot.
"""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from tyro.conf import arg

from launch.bench.measure import measure
from launch.bench.row import Case, Measured, Row
from launch.bench.scaling import show_limits, show_scaling
from launch.bench.show import plot, show
from launch.errors import LaunchInputError

SLOWER = 0.05
VARIANTS = ("float32", "bfloat16", "sampled", "again")
RIVAL_NAMES = ("loss_parallel", "metric-learning", "none")


@dataclass(frozen=True)
class HeadBenchOptions:
    """Measures the classifier: seconds a step, memory, bytes on the wire, beside its rivals and the floor."""

    classes: Annotated[tuple[int, ...], arg(metavar="N …")] = (93_431, 1_000_000)
    """Numbers of classes, a table section each."""
    ranks: int = 2
    """Ranks, a process each."""
    threads: int = 1
    """Threads, per rank."""
    batch_size: int = 64
    """Images of a step, per rank."""
    embedding_dim: int = 512
    """Numbers an embedding."""
    of_ranks: int = 0
    """Measure one rank's work in a job of so many ranks instead; the others stand in."""
    steps: int = 3
    """Steps measured after one to warm up; the median counts. 0: the first alone, if it takes minutes."""
    variants: Annotated[tuple[str, ...], arg(metavar="NAME …")] = VARIANTS
    """Of ours: float32, bfloat16, sampled (rate 0.1), again (exponentials made again, never kept)."""
    rivals: Annotated[tuple[str, ...], arg(metavar="NAME …")] = RIVAL_NAMES[:2]
    """What else to measure: loss_parallel, metric-learning, none."""
    bandwidth: float = 25.0
    """Of the network, Gbit/s, for the computed time on the wire."""
    latency: float = 50.0
    """Of one exchange, µs."""
    json: Path | None = None
    """Write the numbers to this file."""
    plot: Path | None = None
    """Draw them into this picture."""
    against: Path | None = None
    """An earlier --json; what lost more than 5 % of its ratio to the floor is named, with exit code 1."""

    def __post_init__(self) -> None:
        least = {"ranks": 1, "threads": 1, "batch_size": 1, "embedding_dim": 1, "steps": 0, "of_ranks": 0}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ValueError(f"{name} must be {smallest} or more, got {getattr(self, name)}")
        if not self.classes or min(self.classes) < 1:
            raise ValueError(f"classes must be 1 or more, got {self.classes}")
        for option, known in (("variants", VARIANTS), ("rivals", RIVAL_NAMES)):
            for name in getattr(self, option):
                if name not in known:
                    raise ValueError(f"{option} must be of {', '.join(known)}, got {name}")
        for name in ("bandwidth", "latency"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")


def head(options: HeadBenchOptions, peers: Mapping[str, str] = MappingProxyType({})) -> int:
    """`cosface bench head`; peers: what `cases` takes. Raises LaunchInputError."""
    before = _read(options.against) if options.against else None
    rows = []
    for case in cases(options, peers):
        begun = time.monotonic()
        print(f"measuring {case.name}, {case.classes:,} classes", end="", flush=True)
        try:
            rows.append(Row(case, measure(case, options.steps)))
        except LaunchInputError as error:
            rows.append(Row(case, None, str(error)))
        print(f": {time.monotonic() - begun:.0f} s", flush=True)
    show(rows, options.bandwidth, options.latency)
    if options.of_ranks:
        show_limits(rows, options.bandwidth, options.latency)
    show_scaling(rows)
    if options.json:
        _write(options.json, rows)
    if options.plot:
        plot(rows, options.plot)
    return 0 if before is None else _compare(rows, before)


def cases(options: HeadBenchOptions, peers: Mapping[str, str] = MappingProxyType({})) -> list[Case]:
    """The rows of the table. peers: rivals from outside that were put into RIVALS, and where each is."""
    found = []
    for classes in options.classes:
        ours = Case(
            "cosface",
            classes,
            options.embedding_dim,
            options.batch_size,
            options.ranks,
            threads=options.threads,
            of_ranks=options.of_ranks,
        )
        variants = {
            "float32": ours,
            "bfloat16": replace(ours, dtype="bfloat16"),
            "sampled": replace(ours, sample_rate=0.1),
            "again": replace(ours, workspace_mib=0.0),
        }
        found += [case for name, case in variants.items() if name in options.variants]
        if options.of_ranks:
            continue
        for rival, place in peers.items():
            theirs = replace(ours, rival=rival, peer=place)
            found += [theirs, replace(theirs, dtype="bfloat16")]
        if "loss_parallel" in options.rivals and options.ranks > 1 and classes % options.ranks == 0:
            found.append(replace(ours, rival="loss_parallel"))
        if "metric-learning" in options.rivals:
            threads, batch = options.ranks * options.threads, options.batch_size * options.ranks
            alone = replace(ours, ranks=1, threads=threads, batch_size=batch)
            found.append(replace(alone, rival="metric-learning"))
    return found


def _write(file: Path, rows: list[Row]) -> None:
    content = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.processor() or platform.machine()}, {_processor()}",
        "rows": [{"case": asdict(row.case), "measured": _finite(row.measured)} for row in rows],
    }
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise LaunchInputError(f"--json {file}: cannot be written: {error.strerror}") from None


def _finite(measured: Measured | None) -> dict[str, Any] | None:
    """Without a loss where the other ranks only stand in: it is Inf, which JSON cannot say."""
    if measured is None:
        return None
    return asdict(measured) | {"loss": measured.loss if math.isfinite(measured.loss) else None}


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["rows"]
        return [row for row in rows if row["measured"]]
    except OSError as error:
        raise LaunchInputError(f"--against {file}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise LaunchInputError(f"--against {file}: is not what --json writes") from None


def _compare(rows: list[Row], before: list[dict[str, Any]]) -> int:
    """Say what became slower, by ratios to the floor that was measured in the same run."""
    slower = 0
    for row in rows:
        then = next((one["measured"] for one in before if one["case"] == asdict(row.case)), None)
        if row.measured is None or then is None:
            continue
        now, was = row.measured.floor_s / row.measured.step_s, then["floor_s"] / then["step_s"]
        if now < was * (1 - SLOWER):
            slower += 1
            print(
                f"slower: {row.case.rival} {row.case.dtype}, {row.case.classes:,} classes: "
                f"{now:.0%} of the floor, {was:.0%} before"
            )
    if not slower:
        print("nothing is slower by more than 5 %")
    return 1 if slower else 0


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")
