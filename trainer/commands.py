"""`cosface train`: one rank of a run, alone or under torchrun's environment."""

from __future__ import annotations

import socket

import torch

from trainer.config import load_config
from trainer.deadlines import DeadlinesConfig
from trainer.device import choose_device
from trainer.errors import RankLost, StepFailed, TrainerInputError, TrainingFailed
from trainer.failed_alone import OUT_OF_MEMORY, in_words
from trainer.loop import train as run_training
from trainer.meeting import joined, tell_others
from trainer.ranks import INPUT_ERRORS, FailedElsewhere, Ranks, ranks_from_environment
from trainer.settings import Config
from trainer.stop import EXIT_STOPPED, StopAsked, StopRequest

EXIT_CODES = {"finished": 0, "stopped": EXIT_STOPPED}


def train(argv: list[str], stop: StopRequest | None = None) -> int:
    """Train and return 0 when the last step is done, 75 when stopped on request.

    stop: already listening, if given; to be called in the main thread. Raises, on one rank alone, what is
    wrong with the input and TrainingFailed; the others return its exit code without a word.
    """
    if stop is None:
        with StopRequest() as own:
            return train(argv, own)
    try:
        ranks = ranks_from_environment()
    except TrainerInputError as error:
        tell_others(error)
        raise TrainerInputError(f"{error}, on {socket.gethostname()}") from error
    config: Config | None = None
    device, refused = torch.device("cpu"), None
    try:
        config = load_config(argv)
        device = choose_device(config, ranks)
    except INPUT_ERRORS as error:
        refused = error
    deadlines = config.waits if config else DeadlinesConfig()
    try:
        with joined(ranks, device, deadlines, stop, refused=refused, process_ends=True) as met:
            assert config  # else refused
            return EXIT_CODES[run_training(config, met, device, stop)]
    except FailedElsewhere as failed:
        return failed.exit_code
    except StopAsked:
        return EXIT_STOPPED
    except OUT_OF_MEMORY as error:  # outside of a step
        raise _with_rank(TrainingFailed(f"no memory left: {in_words(error)}"), ranks) from error
    except (*INPUT_ERRORS, TrainingFailed) as error:
        raise _with_rank(error, ranks) from error


def _with_rank(error: Exception, ranks: Ranks) -> Exception:
    """Say where it was; of rank 0, whose machine people look at, it goes without saying."""
    if ranks.is_first or isinstance(error, RankLost | StepFailed):
        return error
    kind = TrainerInputError if isinstance(error, INPUT_ERRORS) else TrainingFailed
    return kind(f"rank {ranks.rank} on {socket.gethostname()}: {error}")
