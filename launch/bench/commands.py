"""`cosface bench NAME …`: which benchmark, and its own options."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from launch.errors import LaunchInputError

EXIT_INPUT = 2
# Module, options class and function of each; imported when it is asked for.
BENCHMARKS = {
    "head": ("launch.bench.head", "HeadBenchOptions", "head"),
    "loader": ("launch.bench.loader", "LoaderBenchOptions", "loader"),
}


def bench(arguments: list[str]) -> int:
    """Run a benchmark; returns the exit code. Raises LaunchInputError for an unknown one."""
    from trainer.command_line import parse

    usage = f"usage: cosface bench {{{','.join(BENCHMARKS)}}} …   (cosface bench head --help explains one)"
    if not arguments:
        print(usage, file=sys.stderr)
        return EXIT_INPUT
    name, *rest = arguments
    if name in ("-h", "--help"):
        print(usage)
        return 0
    if name not in BENCHMARKS:
        raise LaunchInputError(f"unknown benchmark {name!r}: there are {', '.join(BENCHMARKS)}")
    module, options, function = BENCHMARKS[name]
    loaded = importlib.import_module(module)
    kind, run = getattr(loaded, options), getattr(loaded, function)
    work: Callable[[Any], int] = run
    return work(parse(kind, rest, prog=f"cosface bench {name}", description=kind.__doc__))
