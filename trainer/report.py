"""What a run writes and shows beside its checkpoints; rank 0 does so, all ranks make the calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple
from types import TracebackType
from typing import Any, Literal, Self

from data_pipeline.damaged import DamagedRecord
from data_pipeline.sets.notes import notes_on
from trainer.classifier import theory_warnings
from trainer.config import to_toml
from trainer.device import note_on_device
from trainer.job import Job, StepResult
from trainer.metrics import EventLog
from trainer.progress import ProgressDisplay
from trainer.run_directory import RunDirectory


class Report:
    """A context manager around the loop. run: the held folder on rank 0, None on all others."""

    def __init__(self, job: Job, run: RunDirectory | None) -> None:
        self._job = job
        self._run = run
        self._first_step = job.step
        self._stack = ExitStack()
        self._events: EventLog | None = None
        self._damaged = 0
        self._by_opencv = 0
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
        self._stack.close()

    def step(self, result: StepResult) -> None:
        """A step is done: log it and show it."""
        job = self._job
        seconds = job.watch.lap()
        images_per_second = job.config.data.batch_size * job.ranks.world_size / seconds["total"]
        self._progress.step(job.step, result.loss, result.lr, images_per_second)
        if self._events is None or job.step % job.config.log.every:
            return
        event: dict[str, Any] = {
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
                event[name] = value
        self._events.write(event)

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
        self._damaged += len(records)
        for record in records:
            self._progress.say(f"damaged, the next image of the order is taken instead: {record}")
        if self._run:
            rows = [(*astuple(record.origin), record.reason) for record in records]
            self._run.add_to_csv("damaged.csv", ("file", "offset", "key", "label", "reason"), rows)

    def evaluate(self) -> None:
        """Verify on the run's pair sets, unless a run that went before did; every rank embeds its part."""
        job = self._job
        files = job.config.evaluation.verification
        name = f"evaluation/step-{job.step:08d}.json"
        done_before = job.step == self._first_step and (job.config.run / name).exists()
        if not files or done_before:
            return
        from trainer.evaluation.run import evaluate_sets

        error: Exception | None = None
        results = {}
        try:
            with job.engine.evaluating() as backbone:
                results = evaluate_sets(backbone, files, job.model.image_size, job.device, job.ranks)
        except Exception as caught:
            error = caught
        job.ranks.agree_on(error)
        with job.ranks.agreed():
            if self._run:
                self._run.write_json(name, {key: result.to_json() for key, result in results.items()})
        for key, result in results.items():
            deviation = f" ± {100 * result.accuracy_std:.2f}"
            self._progress.say(f"step {job.step}: {key} {100 * result.accuracy:.2f}{deviation} %")

    def end(self) -> str:
        """Write how the run ended: "finished", or "stopped" if steps are left."""
        outcome: Literal["finished", "stopped"] = "finished" if self._job.is_done else "stopped"
        with self._job.ranks.agreed():
            if self._run:
                self._run.write_status(outcome, self._job.step)
        if self._run:
            told: str = outcome
            if self._job.is_done and self._job.step == self._first_step:
                told = "had finished already,"
            at = f"after {self._job.step} of {self._job.total_steps} steps"
            hint = "" if self._job.is_done else "; the same command goes on from there"
            self._progress.say(f"{self._run.folder}: {told} {at}{hint}")
        return outcome

    def _begin(self, run: RunDirectory, ranges: list[tuple[int, int]]) -> None:
        job = self._job
        run.write("run.toml", to_toml(job.config))
        owners = [{"rank": rank, "classes": owned} for rank, owned in enumerate(ranges)]
        run.write_json("ranks.json", {"num_classes": job.model.num_classes, "ranks": owners})
        run.write_status("running", job.step)
        self._say_start(ranges)
        self._events = EventLog(run.folder / "events.jsonl", job.step)
        self._stack.callback(self._events.close)

    def _say_start(self, ranges: list[tuple[int, int]]) -> None:
        job = self._job
        say = self._progress.say
        weights = sum(
            value.numel() for name, value in job.engine.backbone_tensors().items() if name[:6] == "model."
        )
        size = "×".join(map(str, job.model.image_size))
        say(
            f"{job.dataset.name}: {job.dataset.num_images} images of {job.model.num_classes} identities; "
            f"{job.model.backbone} at {size}, {weights / 1e6:.1f} M numbers; on {job.device.type}"
        )
        for rank, (first, last) in enumerate(ranges):
            owned = f"classes {first}–{last - 1}" if last > first else "no class"
            say(f"rank {rank}: {owned} of {job.model.num_classes}")
        notes = [*notes_on(job.dataset), *theory_warnings(job.config, job.model.num_classes)]
        for note in filter(None, [note_on_device(job.config, job.device), *notes]):
            say(f"note: {note}")
        if job.step and not job.is_done:
            say(f"goes on from step {job.step} of {job.total_steps}")
