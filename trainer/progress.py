"""What rank 0 shows of a run: a bar on a terminal, plain lines everywhere else."""

from __future__ import annotations

from data_pipeline.files.progress import Display


class ProgressDisplay(Display):
    """A context manager around the loop of rank 0; on other ranks it shows nothing."""

    def __init__(self, total_steps: int, done_steps: int, shown: bool) -> None:
        super().__init__(total_steps, "step", before=done_steps, shown=shown)

    def step(self, step: int, loss: float, lr: float, images_per_second: float) -> None:
        """`step` steps are done; the first and the last are always shown."""
        if self.is_shown and (step in (self.before + 1, self.total) or self.is_due(step)):
            self.show(step, f"loss {loss:.4f}  lr {lr:.3g}  {images_per_second:,.0f} images/s")
