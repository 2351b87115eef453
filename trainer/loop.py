"""What training is, from a run's settings to its last checkpoint."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext

import torch

from data_pipeline.loader.loader import Batch
from partial_fc.errors import CollectiveError
from trainer.agreement import check_common_folder, check_settings
from trainer.check import check
from trainer.checkpoint import checkpoint_steps, remove_leftovers
from trainer.damage import DamageWatch
from trainer.device import check_devices_fit, share_cores
from trainer.job import Job, assembled
from trainer.meeting import set_deadline
from trainer.ranks import FailedElsewhere, Ranks, exit_code
from trainer.report import Report
from trainer.run_directory import RunDirectory
from trainer.run_files import Status
from trainer.settings import Config
from trainer.stop import EXIT_STOPPED, EvaluationStopped, StopAsked, StopRequest


def train(config: Config, ranks: Ranks, device: torch.device, stop: StopRequest) -> str:
    """Train to the last step and return "finished", or "stopped" when asked to; a checkpoint is written.

    ranks: that have met. Raises what is wrong with the input (trainer.ranks.INPUT_ERRORS), TrainingFailed,
    FailedElsewhere where another rank does so, and StopAsked before the first step.
    """
    with ExitStack() as stack:
        with stop.heard_at_once():
            check_devices_fit(ranks, device)
            share_cores(ranks)
            check_settings(config, ranks)
            run = claim_run(config, ranks, stack)
            stack.enter_context(early_stop_told(run))
            check_common_folder(config.run, ranks)
            job = stack.enter_context(assembled(config, ranks, device, stop))
            job.restore()
            report = stack.enter_context(Report(job, run))
        for batch in stack.enter_context(closing(batches_until(stop, job, report))):
            report.step(job.train_step(batch))
            set_deadline(ranks, config.waits.step)  # those before were for reading and compiling, too
            if is_due(job, config.checkpoint.every):
                report.save()
            if config.evaluation.verification and is_due(job, config.evaluation.every):
                report.save()  # what is evaluated can be had
                evaluate(job, report)
            if not job.is_done:
                report.log_step()
        report.save(final=True)
        evaluated = not job.is_done or evaluate(job, report, final=True)
        return report.end(cut_short=not evaluated)


def evaluate(job: Job, report: Report, *, final: bool = False) -> bool:
    """Verify on the run's pair sets; False if a rank was asked to stop before the end."""
    try:
        with job.ranks.waiting(job.config.waits.evaluation):
            report.evaluate(final=final)
    except (EvaluationStopped, FailedElsewhere) as error:
        if exit_code(error) != EXIT_STOPPED:
            raise
        return False
    return True


def claim_run(config: Config, ranks: Ranks, stack: ExitStack) -> RunDirectory | None:
    """Check the input and take the run's folder, on rank 0 for all; None on the others."""
    with ranks.agreed():
        if ranks.is_first:
            check(config, ranks.world_size, ranks.local_world_size)
            run = stack.enter_context(RunDirectory(config.run))
            remove_leftovers(config.run)
            return run
    return None


@contextmanager
def early_stop_told(run: RunDirectory | None) -> Iterator[None]:
    """Say, on rank 0, that a start was stopped before its first step; what was there before is as it was."""
    try:
        yield
    except StopAsked:
        if run:
            step = max(checkpoint_steps(run.folder), default=0)
            run.write_status(Status("stopped", step, saved_step=step if step else -1))
            print(f"{run.folder}: stopped before the first step of this start; the same command starts again")
        raise


def batches_until(stop: StopRequest, job: Job, report: Report) -> Generator[Batch]:
    """Batches while steps are left and no rank is asked to stop; one that a rank cannot read ends all.

    What was learnt before that one is saved.
    """
    if job.is_done:
        return
    with job.batches() as batches:
        watch, first = DamageWatch(job, batches.damaged, report), job.step
        while not job.is_done:
            job.watch.lap()
            batch, error = None, None
            with job.watch.phase("data"):
                try:
                    with stop.heard_at_once() if job.step == first else nullcontext():
                        batch = next(batches)
                except Exception as caught:
                    error = caught
            with job.watch.phase("exchange"):
                try:
                    asked = job.ranks.agree_on(error, wish=watch.wish(stop.requested))
                    asked_to_stop = watch.answer(asked, stop.requested)
                except CollectiveError:
                    raise
                except Exception:
                    # All ranks are here, after the same step, whatever it was and wherever it happened.
                    if job.step:
                        report.save()
                    raise
            report.handed_over(batches.handed_over)
            if asked_to_stop or batch is None:
                return
            yield batch


def is_due(job: Job, every: int) -> bool:
    """Whether something that happens every so many steps happens now; the last step is seen to by itself."""
    return every > 0 and job.step % every == 0 and not job.is_done
