"""`cosface launch KIND … -- training options`: check everything that can be checked, then start the ranks."""

from __future__ import annotations

import sys
from pathlib import Path

from launch.errors import LaunchInputError
from launch.job import LocalOptions, training_job

EXIT_INPUT = 2
USAGE = """usage: cosface launch local --processes N [--port P] -- TRAINING OPTIONS

  local   N ranks on this machine, under torchrun's agent

cosface launch local --help explains the options, cosface train --help those of the training."""


def launch(argv: list[str]) -> int:
    """Run `cosface launch`; return the job's exit code."""
    if argv[:1] in (["--help"], ["-h"]):
        print(USAGE)
        return 0
    if not argv:
        print(USAGE, file=sys.stderr)
        return EXIT_INPUT
    if argv[0] != "local":
        raise LaunchInputError(f"cosface launch knows `local`, got {argv[0]}; see cosface launch --help")
    return launch_local(argv[1:])


def launch_local(argv: list[str]) -> int:
    """Run `cosface launch local`: settings, data and port are checked before a rank is started."""
    from trainer.command_line import parse

    own, training = split(argv)
    options = parse(LocalOptions, own, prog="cosface launch local", description=LocalOptions.__doc__)
    job = training_job(options, training)

    from trainer.stop import EXIT_STOPPED, StopAsked, StopRequest

    with StopRequest() as stop:
        try:
            with stop.heard_at_once():
                from launch.torchrun import run
                from trainer.config import check, load_config

                config = load_config(training)
                check(config, world_size=options.processes)
        except StopAsked:
            print("cosface: stopped before the ranks were started; the same command starts again")
            return EXIT_STOPPED
        return run(job, run_folder=Path(config.run))


def split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Return the launcher's own arguments and the training's, which stand after `--`."""
    if "--" in argv:
        at = argv.index("--")
        return argv[:at], argv[at + 1 :]
    if "--help" in argv or "-h" in argv:
        return argv, []
    raise LaunchInputError(
        "no `--`: the training options follow after it, as in "
        "cosface launch local --processes 2 -- --run RUN --data.train FOLDER"
    )
