"""`cosface bench loader`: images a second of the loader beside DALI's own reader and bare decoding.

Each figure is measured in a process of its own; the rounds go through all of them by turns, so that what the
machine does meanwhile falls on all alike, and the median of the rounds counts.
"""

from __future__ import annotations

import json
import multiprocessing as mp
import platform
import queue
import statistics
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from data_pipeline.loader.dali.pipeline import is_installed
from launch.bench.loader_rivals import RIVALS, LoaderCase, anonymous_mib, batches
from launch.errors import LaunchInputError

_WARM_UP_BATCHES = 8
_DEADLINE_S = 600.0
_PEER = "readers.mxnet"
_BARE = ("bare DALI decoder", "bare OpenCV decoder")
_WITH_DALI = (_BARE[0], _PEER)
_RENDERED = (256, 16)


@dataclass(frozen=True, kw_only=True)
class LoaderBenchOptions:
    """Measures the loader: images a second and memory, beside DALI's own reader and bare decoding."""

    data: Path | None = None
    """Record folder to read; rendered faces, made for it, when not given."""
    threads: Annotated[tuple[int, ...], arg(metavar="N …")] = (1, 2)
    """Threads that decode, a table section each."""
    batch_size: int = 128
    """Images of a batch; one rank is measured."""
    seconds: float = 4.0
    """How long each is measured in a round."""
    rounds: int = 5
    """How often; the median counts."""
    only: Annotated[tuple[str, ...], arg(metavar="NAME …")] = ()
    """Rows to measure, by the start of their names; all when not given."""
    epochs: int = 0
    """Also read the set so many times in one process, and say what memory it holds after each."""
    json: Path | None = None
    """Write the numbers to this file."""

    def __post_init__(self) -> None:
        for name, smallest in {"batch_size": 1, "rounds": 1, "epochs": 0}.items():
            if getattr(self, name) < smallest:
                raise ValueError(f"{name} must be {smallest} or more, got {getattr(self, name)}")
        if not self.threads or min(self.threads) < 1:
            raise ValueError(f"threads must be 1 or more, got {self.threads}")
        if not 0 < self.seconds <= 600:
            raise ValueError(f"seconds must be above 0 and at most 600, got {self.seconds:g}")
        for name in self.only:
            if not any(rival.startswith(name) for rival in RIVALS):
                raise ValueError(f"only must be of {', '.join(RIVALS)}, got {name}")


@dataclass(frozen=True)
class Rate:
    """A row: images a second of every round."""

    case: LoaderCase
    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Images a second."""
        return statistics.median(self.rounds)


def loader(options: LoaderBenchOptions) -> int:
    """`cosface bench loader`. Raises LaunchInputError and DataInputError."""
    with ExitStack() as stack:
        folder = options.data or _rendered(stack)
        rates = _measure(options, str(folder))
        show(rates, folder)
        memory = _memory_by_epoch(options, str(folder)) if options.epochs else []
    if options.json:
        _write(options.json, rates, memory)
    return 0


def _measure(options: LoaderBenchOptions, folder: str) -> list[Rate]:
    names = [name for name in RIVALS if not options.only or name.startswith(options.only)]
    if not is_installed():
        print(f"DALI is not installed: without {', '.join(_WITH_DALI)}")
        names = [name for name in names if name not in _WITH_DALI]
    cases = [
        LoaderCase(name, folder, threads, options.batch_size) for threads in options.threads for name in names
    ]
    found: dict[LoaderCase, list[float]] = {case: [] for case in cases}
    for number in range(options.rounds):
        begun = time.monotonic()
        for case in cases:
            found[case].append(_in_a_process(_rate, case, options.seconds))
        print(f"round {number + 1} of {options.rounds}: {time.monotonic() - begun:.0f} s", flush=True)
    return [Rate(case, tuple(rates)) for case, rates in found.items()]


def show(rates: list[Rate], folder: Path) -> None:
    """Print the table; ratios are between medians of the same number of threads."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    table.add_column("loader", no_wrap=True)
    for name in ("threads", "images/s", "from – to", f"× {_PEER}", "of bare decoding"):
        table.add_column(name, justify="right", no_wrap=True)
    for rate in rates:
        same = {other.case.rival: other.median for other in rates if other.case.threads == rate.case.threads}
        bare = max((same[name] for name in _BARE if name in same), default=None)
        peer = same.get(_PEER)
        table.add_row(
            rate.case.rival,
            str(rate.case.threads),
            f"{rate.median:,.0f}",
            f"{min(rate.rounds):,.0f} – {max(rate.rounds):,.0f}",
            f"{rate.median / peer:.2f}" if peer else "–",
            f"{rate.median / bare:.0%}" if bare else "–",
        )
    console = Console(width=None if Console().is_terminal else 120)
    console.print(table)
    console.print(f"set: {folder}; on {platform.machine()}, medians of {len(rates[0].rounds)} rounds")


def _memory_by_epoch(options: LoaderBenchOptions, folder: str) -> list[float]:
    case = LoaderCase("cosface, random", folder, max(options.threads), options.batch_size)
    memory: list[float] = _in_a_process(_epochs, case, options.epochs)
    told = sorted({1, 2, 5, 10, 20, options.epochs} & set(range(1, options.epochs + 1)))
    print("memory of its own, MiB, after epoch " + ", ".join(f"{at}: {memory[at - 1]:.0f}" for at in told))
    return memory


def _in_a_process(work: Any, case: LoaderCase, amount: float) -> Any:
    """What `work` returns in a fresh process. Raises LaunchInputError with its reason if it fails."""
    context = mp.get_context("spawn")
    results: Any = context.Queue()
    process = context.Process(target=_child, args=(work, case, amount, results))
    process.start()
    try:
        deadline = time.monotonic() + _DEADLINE_S + 60 * amount
        while time.monotonic() < deadline:
            with suppress(queue.Empty):
                good, found = results.get(timeout=1.0)
                if good:
                    return found
                raise LaunchInputError(f"{case.rival}: {found}")
            if process.exitcode not in (None, 0):
                raise LaunchInputError(f"{case.rival}: its process ended with exit code {process.exitcode}")
        raise LaunchInputError(f"{case.rival}: no result in time")
    finally:
        process.join(timeout=10)
        process.kill()


def _child(work: Any, case: LoaderCase, amount: float, results: Any) -> None:
    try:
        results.put((True, work(case, amount)))
    except Exception as error:
        results.put((False, f"{type(error).__name__}: {error}"))


def _rate(case: LoaderCase, seconds: float) -> float:
    with ExitStack() as stack:
        supply = batches(case, stack)
        for _ in range(_WARM_UP_BATCHES):
            next(supply)
        images, begun = 0, time.perf_counter()
        while (passed := time.perf_counter() - begun) < seconds:
            images += next(supply)
        return images / passed


def _epochs(case: LoaderCase, epochs: float) -> list[float]:
    from data_pipeline.sets.record_folder import FaceDataset

    with FaceDataset.open(case.folder) as dataset:
        num_images = dataset.num_images
    memory: list[float] = []
    with ExitStack() as stack:
        supply, images = batches(case, stack), 0
        while len(memory) < epochs:
            images += next(supply)
            if images >= (len(memory) + 1) * num_images:
                memory.append(anonymous_mib())
    return memory


def _rendered(stack: ExitStack) -> Path:
    from data_pipeline.rendered import write_rendered_dataset

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "rendered"
    identities, views = _RENDERED
    write_rendered_dataset(folder, range(identities), views)
    return folder


def _write(file: Path, rates: list[Rate], memory: list[float]) -> None:
    content = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": platform.machine(),
        "rows": [{**asdict(rate.case), "images_per_second": rate.rounds} for rate in rates],
        "memory_mib_by_epoch": memory,
    }
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise LaunchInputError(f"--json {file}: cannot be written: {error.strerror}") from None
