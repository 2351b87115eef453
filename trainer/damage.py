"""Damaged images of all ranks together: known to everybody, told once, not more than a run puts up with."""

from __future__ import annotations

from data_pipeline.damaged import DamagedImages
from trainer.job import Job
from trainer.report import Report

# What a rank wishes for before a step; of several the largest is met, the others at the next step.
STOP, SHARE = 1, 2


class DamageWatch:
    """Keeps the ranks' findings the same, by an exchange that costs nothing while there are none."""

    def __init__(self, job: Job, damaged: DamagedImages, report: Report) -> None:
        self._job, self._damaged, self._report = job, damaged, report

    @property
    def news(self) -> int:
        """SHARE if this rank has found what the others do not know of, otherwise 0."""
        return SHARE if self._damaged.news() else 0

    def share(self, wish: int) -> None:
        """What the ranks wish for having been agreed on: tell each other of what was found, if it is that.

        Raises TooManyDamaged, on one rank, and FailedElsewhere on the others.
        """
        if wish != SHARE:
            return
        ranks, damaged = self._job.ranks, self._damaged
        found = [(int(index), str(why)) for part in ranks.gather(damaged.news()) for index, why in part]
        new = damaged.take_in(found)
        with ranks.agreed():
            self._report.damaged([damaged.row(index) for index in new])
        with ranks.agreed():
            damaged.check(self._job.config.data.max_damaged)
