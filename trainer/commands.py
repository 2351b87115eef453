"""`cosface train`: one rank of a run, alone or under torchrun's environment."""

from __future__ import annotations

import torch.distributed as dist

from partial_fc.errors import CollectiveError
from trainer.config import load_config
from trainer.device import choose_device
from trainer.errors import TrainingFailed
from trainer.loop import train as run_training
from trainer.ranks import EXIT_INPUT, INPUT_ERRORS, FailedElsewhere, ranks_from_environment
from trainer.stop import StopRequest

EXIT_CODES = {"finished": 0, "stopped": 75}


def train(argv: list[str]) -> int:
    """Train and return 0 when the last step is done, 75 when stopped on request.

    Raises, on one rank alone, what is wrong with the input and TrainingFailed; the others return 2 or 1.
    """
    ranks = ranks_from_environment()
    try:
        config = load_config(argv)
        device = choose_device(config, ranks)
    except INPUT_ERRORS:
        if ranks.is_first:
            raise
        return EXIT_INPUT
    try:
        with StopRequest() as stop:
            return EXIT_CODES[run_training(config, ranks, device, stop)]
    except FailedElsewhere as failed:
        return failed.exit_code
    except RuntimeError as error:
        if ranks.world_size == 1 or not _is_lost_rank(error):
            raise
        if isinstance(error, CollectiveError):  # says who
            raise TrainingFailed(str(error)) from error
        reason = str(error).splitlines()[0]
        raise TrainingFailed(
            f"rank {ranks.rank}: another rank is gone or did not come in time: {reason}"
        ) from error


def _is_lost_rank(error: RuntimeError) -> bool:
    return isinstance(error, (CollectiveError, dist.DistError))
