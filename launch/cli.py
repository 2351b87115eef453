"""The `cosface` command: a table of commands, imported when they are called, and what exit codes mean.

Exit codes: 0 done; 1 the work failed; 2 the user's input is wrong (one line on standard error); 75 stopped on
request with a checkpoint written; 130 interrupted before there was anything to keep.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import os
import sys
import traceback
import typing
from collections.abc import Callable

from launch.errors import LaunchInputError

EXIT_FAILED = 1
EXIT_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141  # what a shell reports for a process that SIGPIPE ended


@dataclasses.dataclass(frozen=True)
class Command:
    """Where a command lives; its function takes options (a dataclass) or `argv: list[str]`."""

    module: str
    function: str
    help: str


COMMANDS = {
    "train": Command("trainer.commands", "train", "train in this process; under torchrun, as one rank"),
    "launch": Command("launch.commands", "launch", "train on several ranks: cosface launch local …"),
    "evaluate": Command("trainer.commands_evaluate", "evaluate", "verification accuracy, AUC, TAR@FAR"),
    "pack": Command("data_pipeline.commands", "pack", "image folders (one per identity) → record folder"),
    "pairs": Command(
        "data_pipeline.commands", "pairs", "a list of pairs (LFW, CFP, any) and images → a .bin"
    ),
    "unpack": Command("data_pipeline.commands", "unpack", "a .bin or a record folder → image files"),
    "inspect": Command("data_pipeline.commands", "inspect", "counts, sizes, duplicates, damaged records"),
    "render": Command(
        "data_pipeline.rendered.commands", "render", "rendered faces → record folder, to try things"
    ),
    "losses": Command("trainer.commands_losses", "losses", "the losses, their formulas, options and ranges"),
    "advise": Command("partial_fc.commands", "advise", "what theory says of margin and scale"),
    "bench": Command("launch.bench.commands", "bench", "what things cost here: cosface bench head …"),
}

# The packages' own kinds of user error and of failed work, by module. They are looked up among what a command
# has imported, so that `cosface --help` imports nothing.
INPUT_ERRORS = {
    "launch.errors": "LaunchInputError",
    "trainer.errors": "TrainerInputError",
    "partial_fc.errors": "HeadInputError",
    "data_pipeline.errors": "DataInputError",
}
WORK_ERRORS = {"trainer.errors": "TrainingFailed"}


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code; every message but a bug's traceback is one line on stderr."""
    arguments = sys.argv[1:] if argv is None else argv
    return guarded(lambda: dispatch(arguments))


def guarded(work: Callable[[], int]) -> int:
    """Run `work` and turn what it raises into an exit code and, where a person has to act, one line."""
    try:
        code = work()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has gone: nothing is wrong. Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except Exception as error:
        if isinstance(error, _imported(INPUT_ERRORS)):
            print(f"cosface: {error}", file=sys.stderr)
            return EXIT_INPUT
        if isinstance(error, _imported(WORK_ERRORS)):
            print(f"cosface: {error}", file=sys.stderr)
            return EXIT_FAILED
        traceback.print_exc()
        return EXIT_FAILED


def dispatch(arguments: list[str]) -> int:
    """Find the command that `arguments` name, parse its options and call it.

    Raises LaunchInputError for a missing or unknown command.
    """
    if not arguments:
        raise LaunchInputError("no command given; `cosface --help` lists them")
    name, rest = arguments[0], arguments[1:]
    if name in ("--help", "-h", "help"):
        print(help_text())
        return 0
    if name == "--version":
        print(f"cosface {version()}")
        return 0
    if name not in COMMANDS:
        nearest = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are {', '.join(COMMANDS)}"
        raise LaunchInputError(f"unknown command {name!r}: {hint}")
    if name == "train":
        # This process is a rank, perhaps one of many; it sees to that before it imports torch.
        from trainer.__main__ import rank

        return rank(rest)
    return call(name, COMMANDS[name], rest)


def call(name: str, command: Command, arguments: list[str]) -> int:
    """Import the command's function and call it with its options dataclass, or the arguments as they are."""
    function = getattr(importlib.import_module(command.module), command.function)
    parameter = next(iter(inspect.signature(function).parameters))
    kind = typing.get_type_hints(function)[parameter]
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return int(function(arguments))
    from trainer.command_line import parse

    return int(function(parse(kind, arguments, prog=f"cosface {name}", description=command.help)))


def help_text() -> str:
    """Return what `cosface --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: cosface COMMAND …          (cosface COMMAND --help explains its options)",
            "",
            "Face recognition with large-margin cosine losses, the class matrix sharded over ranks.",
            "",
            *lines,
            "",
            "Exit codes: 0 done, 1 failed, 2 wrong input, 75 stopped with a checkpoint (start it again).",
        ]
    )


def version() -> str:
    """Return the version of the installed distribution."""
    from importlib import metadata

    try:
        return metadata.version("cosface")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _imported(errors: dict[str, str]) -> tuple[type[Exception], ...]:
    """Return those of the error classes whose modules have been imported; others cannot have been raised."""
    return tuple(
        getattr(sys.modules[module], name) for module, name in errors.items() if module in sys.modules
    )


if __name__ == "__main__":
    sys.exit(main())
