"""What a run says of itself before its first step."""

from __future__ import annotations

from collections.abc import Iterator

from data_pipeline.sets.notes import notes_on
from trainer.classifier import theory_warnings
from trainer.device import note_on_device
from trainer.job import Job
from trainer.recipe import told


def start_lines(job: Job, ranges: list[tuple[int, int]]) -> Iterator[str]:
    """Set, network, who owns which classes, and what is worth a note. ranges: each rank's classes."""
    weights = sum(
        value.numel() for name, value in job.engine.backbone_tensors().items() if name[:6] == "model."
    )
    size = "×".join(map(str, job.model.image_size))
    yield (
        f"{job.dataset.name}: {job.dataset.num_images} images of {job.model.num_classes} identities; "
        f"{job.model.backbone} at {size}, {weights / 1e6:.1f} M numbers; on {job.device.type}"
    )
    for rank, (first, last) in enumerate(ranges):
        owned = f"classes {first}–{last - 1}" if last > first else "no class"
        yield f"rank {rank}: {owned} of {job.model.num_classes}"
    if defaults := told(job.config, job.images_a_step, job.total_steps):
        yield defaults
    notes = [*notes_on(job.dataset), *theory_warnings(job.config, job.model.num_classes), *job.notes]
    for note in filter(None, [note_on_device(job.config, job.device), *notes]):
        yield f"note: {note}"
    if job.step and not job.is_done:
        yield f"goes on from step {job.step} of {job.total_steps}"
