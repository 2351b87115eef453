"""How long the ranks of a run wait for each other."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class DeadlinesConfig:
    """Seconds to wait for another rank before the run fails; every kind of wait has its own."""

    start: float = 1800.0
    """Until all ranks have met, have read the set and the checkpoint and have done their first step."""
    step: float = 120.0
    """In every step behind the first, for the images of the slowest rank too."""
    save: float = 1800.0
    """For the slowest rank's part of a checkpoint."""
    evaluation: float = 1800.0
    """For the slowest rank's part of an evaluation."""

    def __post_init__(self) -> None:
        for one in fields(self):
            seconds = getattr(self, one.name)
            if not 0 < seconds < 1e6:
                raise ValueError(f"{one.name} must be above 0 seconds and below a million, got {seconds:g}")

    @property
    def longest(self) -> float:
        """The longest of them."""
        return max(self.start, self.step, self.save, self.evaluation)
