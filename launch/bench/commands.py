"""`cosface bench NAME …`: which benchmark, and its own options."""

from __future__ import annotations

from launch.errors import LaunchInputError


def bench(arguments: list[str]) -> int:
    """Run a benchmark; returns the exit code. Raises LaunchInputError for an unknown one."""
    from launch.bench.head import HeadBenchOptions, head
    from trainer.command_line import parse

    name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if name in ("-h", "--help"):
        print("usage: cosface bench head …        (cosface bench head --help explains its options)")
        return 0
    if name != "head":
        raise LaunchInputError(f"unknown benchmark {name!r}: there is head; `cosface bench head --help`")
    return head(
        parse(HeadBenchOptions, rest, prog="cosface bench head", description=HeadBenchOptions.__doc__)
    )
