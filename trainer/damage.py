"""Damaged images of all ranks together: known to everybody, told once, not more than a run puts up with."""

from __future__ import annotations

from data_pipeline.loader.damaged import DamagedImages
from trainer.job import Job
from trainer.report import Report

# What a rank wishes for before a step; of several the largest is heard.
_STOP, _SHARE = 1, 2


class DamageWatch:
    """Keeps the ranks' findings the same, by an exchange that costs nothing while there are none."""

    def __init__(self, job: Job, damaged: DamagedImages, report: Report) -> None:
        self._job, self._damaged, self._report = job, damaged, report

    def wish(self, stop: bool) -> int:
        """What this rank wishes for: to share what the others do not know of, or to stop; 0 for nothing."""
        return _SHARE if self._damaged.news() else _STOP if stop else 0

    def answer(self, asked: int, stop: bool) -> bool:
        """The largest wish of all ranks having been agreed on: whether to stop.

        Where one has findings, all tell each other of theirs, and of whether they were asked to stop. Raises
        TooManyDamaged, on one rank, and FailedElsewhere on the others.
        """
        if asked != _SHARE:
            return asked == _STOP
        ranks, damaged = self._job.ranks, self._damaged
        told = ranks.gather([stop, damaged.news()])
        new = damaged.take_in([(int(index), str(why)) for _, news in told for index, why in news])
        with ranks.agreed():
            self._report.damaged([damaged.record(index) for index in new])
        with ranks.agreed():
            damaged.check(self._job.config.data.max_damaged)
        return any(wants_to for wants_to, _ in told)
