"""What a run writes and shows beside its checkpoints; rank 0 does so, all ranks make the calls.

What can be done again later must not end the run: a checkpoint that the disk refuses and an evaluation that
fails are told, counted in status.json, listed in events.jsonl, and gone on without. Only those of the last
step fail the command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import astuple, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import torch

from data_pipeline.loader.damaged import DamagedRecord
from partial_fc.errors import CollectiveError
from trainer.checkpoint import NotWritten
from trainer.config import to_toml
from trainer.errors import TrainingFailed
from trainer.job import Job, StepResult
from trainer.metrics import EventLog
from trainer.progress import ProgressDisplay
from trainer.ranks import EXIT_FAILED, INPUT_ERRORS, FailedElsewhere
from trainer.run_directory import RunDirectory
from trainer.run_files import RANKS_FILE, State, Status
from trainer.start_lines import start_lines

if TYPE_CHECKING:
    from trainer.evaluation.verification import VerificationResult

DAMAGED_FILE = "damaged.csv"
# Of an evaluation in mid-run: its files or the network's embeddings are at fault, not the training.
_PASSED_OVER = (*INPUT_ERRORS, TrainingFailed, OSError, MemoryError, torch.OutOfMemoryError)


class Report:
    """A context manager around the loop. run: the held folder on rank 0, None on all others."""

    def __init__(self, job: Job, run: RunDirectory | None) -> None:
        self._job = job
        self._run = run
        self._first_step = job.step
        self._stack = ExitStack()
        self._events: EventLog | None = None
        self._held: dict[str, Any] | None = None
        self._save_s = 0.0
        self._damaged = self._by_opencv = self._failed_saves = self._failed_evaluations = 0
        self._progress = ProgressDisplay(job.total_steps, job.step, shown=run is not None)

    def __enter__(self) -> Self:
        job = self._job
        ranges = job.ranks.gather(job.objective.class_range)
        with job.ranks.agreed():
            if self._run:
                self._begin(self._run, ranges)
        self._stack.enter_context(self._progress)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.log_step()
        self._stack.close()

    def step(self, result: StepResult) -> None:
        """A step is done: show it, and hold its line of the log until its checkpoint is written."""
        job = self._job
        seconds = job.watch.lap()
        images_per_second = result.images / seconds["total"]
        self._progress.step(job.step, result.loss, result.lr, images_per_second)
        self.log_step()
        if self._events is None or job.step % job.config.log.every:
            return
        self._held = {
            "step": job.step,
            "epoch": round(job.position / job.order.epoch_length, 4),
            "loss": result.loss,
            "lr": result.lr,
            "images_per_second": round(images_per_second, 1),
            "seconds": seconds,
            "damaged": self._damaged,
            "decoded_by_opencv": self._by_opencv,
        }
        for name in ("auxiliary_loss", "gradient_norm"):
            if (value := getattr(result, name)) is not None:
                self._held[name] = value

    def log_step(self) -> None:
        """Write the last step's line, with the seconds that checkpoints took since the line before."""
        if self._held is None:
            return
        if self._save_s:
            self._held["seconds"]["save"] = round(self._save_s, 6)
        self._write_event(self._held)
        self._held, self._save_s = None, 0.0

    def save(self, *, final: bool = False) -> None:
        """Write a checkpoint of this step, unless there is one.

        final: a disk that does not take it is the run's failure: NotWritten, FailedElsewhere.
        """
        job = self._job
        if job.saved_step == job.step:
            return
        refused: NotWritten | None = None
        try:
            with job.watch.phase("save"):
                job.save()
        except NotWritten as error:
            if final and error.rank != job.ranks.rank:
                raise FailedElsewhere(error.rank, EXIT_FAILED) from None
            if final:
                raise
            refused = error
        self._save_s += job.watch.take("save")
        self.log_step()
        if refused is not None:
            self._failed_saves += 1
            self._pass_over("checkpoint", str(refused))
        with suppress(TrainingFailed):  # the checkpoint stands, whatever the disk does with the status
            self._write_status("running")

    def handed_over(self, images: Mapping[int, str]) -> None:
        """OpenCV decoded these images of this rank in DALI's place: the first is told, all are counted."""
        if images and not self._by_opencv:
            index, reason = next(iter(images.items()))
            self._progress.say(
                f"{self._job.dataset.origin(index)}: {reason}: OpenCV decodes it; further ones are counted"
            )
        self._by_opencv = len(images)

    def damaged(self, records: Sequence[DamagedRecord]) -> None:
        """These images were found damaged, and others are taken in their places: told, listed, counted."""
        for record in records:
            self._progress.say(f"damaged, the next image of the order is taken instead: {record}")
        if self._run:
            rows = [(*astuple(record.origin), record.reason) for record in records]
            self._run.add_to_csv(DAMAGED_FILE, ("file", "offset", "key", "label", "reason"), rows)
            self._damaged = self._run.rows_of_csv(DAMAGED_FILE)

    def evaluate(self, *, final: bool = False) -> None:
        """Verify on the run's pair sets, unless a run that went before did; every rank embeds its part.

        final: raises what fails; otherwise what is the pair sets' or the disk's fault is passed over.
        """
        job = self._job
        name = f"evaluation/step-{job.step:08d}.json"
        # Rank 0 looks for all: what one rank sees of a shared folder, another may not see yet.
        done_before = job.step == self._first_step and job.ranks.gather((job.config.run / name).exists())[0]
        if not job.config.evaluation.verification or done_before:
            return
        self.log_step()
        results: dict[str, VerificationResult] = {}
        error: Exception | None = None
        with job.watch.phase("evaluate"):
            try:
                results = self._evaluated()
                if self._run:
                    self._run.write_json(name, {key: result.to_json() for key, result in results.items()})
            except CollectiveError:
                raise
            except Exception as caught:
                error = caught
            failure = self._failure_of_any(error, final)
        seconds = {"evaluate": job.watch.take("evaluate")}
        if failure is not None:
            self._failed_evaluations += 1
            self._pass_over("evaluation", failure, seconds)
            with suppress(TrainingFailed):
                self._write_status("running")
            return
        figures = {key: result.accuracy for key, result in results.items()}
        self._write_event({"step": job.step, "evaluation": figures, "seconds": seconds})
        for key, result in results.items():
            deviation = f" ± {100 * result.accuracy_std:.2f}"
            self._progress.say(f"step {job.step}: {key} {100 * result.accuracy:.2f}{deviation} %")

    def end(self, *, cut_short: bool = False) -> str:
        """Write how the run ended: "finished", or "stopped" if steps or the last evaluation are left."""
        finished = self._job.is_done and not cut_short
        outcome: Literal["finished", "stopped"] = "finished" if finished else "stopped"
        self.log_step()
        with self._job.ranks.agreed():
            self._write_status(outcome)
        if self._run:
            told: str = outcome
            if finished and self._job.step == self._first_step:
                told = "had finished already,"
            at = f"after {self._job.step} of {self._job.total_steps} steps"
            hint = "" if finished else "; the same command goes on from there"
            self._progress.say(f"{self._run.folder}: {told} {at}{hint}")
            for what, count in (
                ("checkpoints could not be written", self._failed_saves),
                ("evaluations failed", self._failed_evaluations),
                ("lines of events.jsonl could not be written", self._events.lost if self._events else 0),
            ):
                if count:
                    self._progress.say(f"{count} {what} on the way")
        return outcome

    def _evaluated(self) -> dict[str, VerificationResult]:
        from trainer.evaluation.run import evaluate_sets

        job, files = self._job, self._job.config.evaluation.verification
        with job.evaluating() as embed:
            return evaluate_sets(embed, files, job.model.image_size, job.device, job.ranks)

    def _failure_of_any(self, error: Exception | None, final: bool) -> str | None:
        """What the first rank that failed says; raises what is not to be passed over."""
        ranks = self._job.ranks
        may_pass = not final and isinstance(error, (FailedElsewhere, *_PASSED_OVER))
        ranks.agree_on(None if may_pass else error)
        own = None
        if error is not None and not isinstance(error, FailedElsewhere):
            own = " ".join(str(error).split()) or type(error).__name__
        return next((words for words in ranks.gather(own) if words is not None), None)

    def _pass_over(self, what: str, reason: str, seconds: dict[str, float] | None = None) -> None:
        """Tell what failed, and list it."""
        step = self._job.step
        self._progress.say(f"step {step}: the {what} failed, the run goes on without: {reason}")
        self._write_event({"step": step, "failed": what, "reason": reason, "seconds": seconds or {}})

    def _write_event(self, event: dict[str, Any]) -> None:
        if self._events is not None and not self._events.write(event) and self._events.lost == 1:
            self._progress.say("events.jsonl: a line could not be written, the run goes on without")

    def _write_status(self, status: State) -> None:
        if self._run:
            job = self._job
            counts = {"failed_saves": self._failed_saves, "failed_evaluations": self._failed_evaluations}
            self._run.write_status(Status(status, job.step, saved_step=job.saved_step, **counts))

    def _begin(self, run: RunDirectory, ranges: list[tuple[int, int]]) -> None:
        job = self._job
        run.keep_settings(to_toml(replace(job.config, optim=job.optim)), job.step)
        owners = [{"rank": rank, "classes": owned} for rank, owned in enumerate(ranges)]
        run.write_json(RANKS_FILE, {"num_classes": job.model.num_classes, "ranks": owners})
        self._write_status("running")
        for line in start_lines(job, ranges):
            self._progress.say(line)
        self._damaged = run.rows_of_csv(DAMAGED_FILE)
        self._events = EventLog(run.folder / "events.jsonl", job.step)
        self._stack.callback(self._events.close)
