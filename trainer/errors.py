"""What a user can do wrong in a run, and how a run can fail."""

from __future__ import annotations

from pathlib import Path


class TrainerInputError(Exception):
    """The run's settings or inputs are wrong: one line, exit code 2."""


class SettingsError(TrainerInputError):
    """A setting that is unknown, mistyped or out of its range."""


class TrainingFailed(Exception):
    """The work itself failed (exit code 1): one line saying where and what is still good."""


class RankLost(TrainingFailed):
    """A rank is gone, stopped or did not come: one line that names it."""


class StepFailed(TrainingFailed):
    """An exception within a step, its cause, as one line that says which step and rank."""


def not_written(file: Path, error: OSError) -> TrainingFailed:
    """The failure of a run whose file could not be written."""
    return TrainingFailed(f"{file}: cannot be written: {error.strerror or error}")
