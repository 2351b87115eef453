"""Damaged record files, indexes and folders, each read in every way and compared with a naive reading.

`python -m tests.data_pipeline.records.fuzz_records --inputs 300000` prints inputs, seconds and outcomes by
kind and ends with 1 at the first outcome that is neither the right bytes nor a DataInputError (a RecordError
where a record is damaged): another exception, wrong bytes, a try of more than its deadline, or an allocation
beyond what the process may have. An input depends on (seed, number) alone: `--first NUMBER --inputs 1`
repeats it.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from tests.data_pipeline.records.fuzz_mutations import MUTATIONS
from tests.data_pipeline.records.fuzz_ways import OUTCOMES, WAYS, Wrong
from tests.data_pipeline.records.naive_records import Folder, Naive, base_folders

DEADLINE_S = 60.0
# Address space beyond what the process has after its imports, and memory taken by one try.
ADDRESS_SPACE = 64 << 20
TRACED = 4 << 20
TRACED_EVERY = 64


class TooLong(BaseException):
    """A try passed its deadline."""


@dataclass
class Tally:
    """What came of the inputs."""

    inputs: Counter[str]
    touched: Counter[str]
    outcomes: Counter[tuple[str, str]]
    slowest_s: float = 0.0
    largest_bytes: int = 0
    seconds: float = 0.0

    def render(self) -> str:
        """Two tables as text."""
        lines = [f"{'mutation':28} {'inputs':>10} {'bytes touched':>14}"]
        lines += [f"{kind:28} {self.inputs[kind]:>10,} {self.touched[kind]:>14,}" for kind in MUTATIONS]
        lines += [f"{'all':28} {self.inputs.total():>10,} {self.touched.total():>14,}", ""]
        lines += [f"{'way of reading':28} " + " ".join(f"{outcome:>14}" for outcome in OUTCOMES)]
        for way in WAYS:
            lines.append(
                f"{way:28} " + " ".join(f"{self.outcomes[way, outcome]:>14,}" for outcome in OUTCOMES)
            )
        lines += [
            "",
            f"{self.inputs.total():,} inputs in {self.seconds:.1f} s; the slowest reading took "
            f"{self.slowest_s:.3f} s, the largest memory of one was {self.largest_bytes / 1024:.0f} KiB",
            "other outcomes: none",
        ]
        return "\n".join(lines)


def inputs(seed: int, first: int, count: int) -> Iterator[tuple[int, str, Folder, int]]:
    """(number, kind of mutation, mutated folder, bytes touched)."""
    folders = base_folders()
    kinds, weights = list(MUTATIONS), [weight for weight, _ in MUTATIONS.values()]
    for number in range(first, first + count):
        rng = random.Random(f"{seed}/{number}")
        kind = rng.choices(kinds, weights)[0]
        mutated, touched = MUTATIONS[kind][1](rng, rng.choice(folders))
        yield number, kind, mutated, touched


def every_truncation() -> Iterator[tuple[int, str, Folder, int]]:
    """Each .rec and .idx cut at each place, numbered below 0."""
    number = 0
    for folder in base_folders():
        for size in range(len(folder.rec)):
            number -= 1
            yield number, ".rec: cut", replace(folder, rec=folder.rec[:size]), len(folder.rec) - size
        for size in range(len(folder.idx or b"")):
            number -= 1
            yield number, ".idx: lines", replace(folder, idx=(folder.idx or b"")[:size]), 1


def run(tries: Iterator[tuple[int, str, Folder, int]], folder: Path) -> Tally:
    """Read each input in every way. Raises Wrong, TooLong or whatever else came out."""
    tally = Tally(Counter(), Counter(), Counter())
    signal.signal(signal.SIGALRM, _too_long)
    began = time.perf_counter()
    for number, kind, mutated, touched in tries:
        tally.inputs[kind] += 1
        tally.touched[kind] += touched
        mutated.write(folder)
        naive = Naive(mutated.rec, mutated.idx)
        traced = number % TRACED_EVERY == 0
        for way, look in WAYS.items():
            start = time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, DEADLINE_S)
            if traced:
                tracemalloc.start()
            try:
                tally.outcomes[way, look(folder, naive)] += 1
            except BaseException as error:
                error.add_note(f"input {number} ({kind}), {way}")
                raise
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                peak = tracemalloc.get_traced_memory()[1] if traced else 0
                tracemalloc.stop()
            if peak > TRACED:
                raise Wrong(f"input {number} ({kind}), {way}: took {peak} bytes of memory")
            tally.largest_bytes = max(tally.largest_bytes, peak)
            tally.slowest_s = max(tally.slowest_s, time.perf_counter() - start)
    tally.seconds = time.perf_counter() - began
    return tally


def _too_long(signum: int, frame: FrameType | None) -> None:
    raise TooLong(f"more than {DEADLINE_S} s")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--every-truncation", action="store_true", help="instead: cut each file at each place"
    )
    options = parser.parse_args(arguments)
    tries = (
        every_truncation()
        if options.every_truncation
        else inputs(options.seed, options.first, options.inputs)
    )
    warnings.simplefilter("error")
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        os.environ["COSFACE_CACHE"] = name
        run(inputs(0, 0, 200), Path(name))
        # After a first round all that is loaded late is there.
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + ADDRESS_SPACE
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
        print(run(tries, Path(name)).render())


if __name__ == "__main__":
    main(sys.argv[1:])
