"""The ranks of a run meet: over the store first, where each can say what is wrong with it, then in groups."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

from partial_fc.communicator import TorchDistributed
from partial_fc.communicator.presence import within
from trainer.board import NO_RANK, AnotherRun, Board
from trainer.deadlines import DeadlinesConfig
from trainer.errors import RankLost, TrainerInputError, TrainingFailed
from trainer.leaving import Leaving, speaks_alone
from trainer.lookout import Lookout
from trainer.ranks import FailedElsewhere, Ranks, exit_code
from trainer.stop import StopAsked, StopRequest
from trainer.store import PortTaken, StoreServer, held_by_rank_0, open_store

_PATIENCE_S = 30.0
"""How long a rank with wrong input waits for those before it: of several, the first says what is wrong."""
_LOOK_S = 0.1
_OTHER_S = 10.0
"""How long rank 0 looks for another rank 0 where it cannot listen."""


@contextmanager
def joined(
    ranks: Ranks,
    device: torch.device,
    deadlines: DeadlinesConfig,
    stop: StopRequest | None = None,
    *,
    refused: Exception | None = None,
    process_ends: bool = False,
) -> Iterator[Ranks]:
    """Meet the other ranks, and leave them at the end; exchanges have the deadline of the start until
    `set_deadline` is called.

    refused: what is wrong with this rank, to be known to all. process_ends: whether the process ends with the
    run, so that nothing which is still under way holds it back.

    Raises what went wrong on one rank and FailedElsewhere on the others: what was agreed on, what one rank
    met alone, and TrainingFailed for ranks that did not come or are lost.
    """
    if ranks.world_size == 1:
        if refused:
            raise refused
        yield ranks
        return
    stop = stop or StopRequest()
    by_rank_0 = held_by_rank_0()
    try:
        server = open_store(ranks, deadlines.start, stop)
        board = Board(server.connect(), ranks.rank, ranks.world_size)
        wrong_number = _arrive(board)
        lookout = Lookout(Board(server.connect(), ranks.rank, ranks.world_size))
    except (AnotherRun, TrainingFailed, dist.DistError) as error:
        if refused:
            raise refused from None
        shown = _who_has(error, ranks) if isinstance(error, PortTaken) else error
        if (by_rank_0 and ranks.is_first) or speaks_alone(ranks, rank_0_is_gone=by_rank_0):
            raise shown from None
        raise FailedElsewhere(0, exit_code(shown)) from error
    leaving = Leaving(ranks, board, lookout, server, stop)
    try:
        if wrong_number:
            raise wrong_number
        _wait_for_all(board, deadlines.start, stop, refused)
        yield _in_groups(ranks, device, server, deadlines)
        dist.destroy_process_group()
    except BaseException as error:
        found = leaving.verdict(error)
        if process_ends:
            leaving.end_process(exit_code(found))
        if found is error:
            raise
        raise found from error
    leaving.well()


def tell_others(error: Exception) -> None:
    """Let the other ranks know, as far as they can be reached, that this process is no rank of theirs."""
    nobody = Ranks(NO_RANK, 2)
    try:
        board = Board(
            open_store(nobody, _PATIENCE_S, StopRequest()).connect(), nobody.rank, nobody.world_size
        )
        if board.all_are_here():
            return
        board.is_a_stranger()
        board.speak()
        board.fail(exit_code(error))
    except (TrainerInputError, TrainingFailed, dist.DistError):
        return  # there is no way to reach them


def set_deadline(ranks: Ranks, seconds: float) -> None:
    """From now on exchanges, the engine's too, wait so long for the other ranks."""
    if ranks.communicator is not None and ranks.communicator.deadline_s != seconds:
        ranks.communicator.deadline_s = seconds
        distributed_c10d._set_pg_timeout(timedelta(seconds=seconds))


def _arrive(board: Board) -> TrainerInputError | None:
    """Arrive, or say why this process is no rank of the run that meets here. Raises AnotherRun."""
    try:
        board.arrive()
    except AnotherRun:
        raise
    except TrainerInputError as error:
        return error
    return None


def _who_has(taken: PortTaken, ranks: Ranks) -> Exception:
    """Why rank 0 cannot listen: another rank 0 does, of this run or of another one, or something else."""
    end = time.monotonic() + _OTHER_S
    try:
        board = within(_OTHER_S, lambda: Board(taken.server.connect(), ranks.rank, ranks.world_size))
        while not within(_OTHER_S, lambda: board.is_here(0)):
            if time.monotonic() > end:
                return taken
            time.sleep(_LOOK_S)
        within(_OTHER_S, board.arrive)
    except TrainerInputError as error:
        if not isinstance(error, AnotherRun):
            board.speak()
            board.fail(exit_code(error))
        return error
    except (TimeoutError, TrainingFailed, dist.DistError):
        pass
    return taken


def _wait_for_all(board: Board, deadline_s: float, stop: StopRequest, refused: Exception | None) -> None:
    """Return when all ranks have come and none has anything wrong with it."""
    if refused:
        board.fail(exit_code(refused))
    end = time.monotonic() + deadline_s
    while not (failures := board.failures()):
        if board.all_are_here():
            return
        if stop.requested:
            raise StopAsked
        if time.monotonic() > end:
            missing = board.places(board.missing())
            raise RankLost(
                f"rank {board.rank}: could not meet the other {board.world_size - 1} within "
                f"{deadline_s:g} s: {missing} did not come"
            )
        time.sleep(_LOOK_S)
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end and not all(map(board.is_here, range(min(failures)))):
        time.sleep(_LOOK_S)
        failures = board.failures()
    first = min(failures)
    if refused and first == board.rank:
        raise refused
    raise FailedElsewhere(first, failures[first])


def _in_groups(ranks: Ranks, device: torch.device, server: StoreServer, deadlines: DeadlinesConfig) -> Ranks:
    """The default group for the engine and the head, and one of the run's own small exchanges."""
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        store=distributed_c10d.PrefixStore("cosface/groups", server.connect()),
        timeout=timedelta(seconds=deadlines.start),
        rank=ranks.rank,
        world_size=ranks.world_size,
    )
    group = dist.new_group(timeout=timedelta(seconds=deadlines.longest), backend="gloo")
    return replace(ranks, communicator=TorchDistributed(group, deadline_s=deadlines.start, user="the run"))
