"""What a user can do wrong in a run, and how a run can fail."""

from __future__ import annotations


class TrainerInputError(Exception):
    """The run's settings or inputs are wrong: one line, exit code 2."""


class SettingsError(TrainerInputError):
    """A setting that is unknown, mistyped or out of its range."""


class TrainingFailed(Exception):
    """The work itself failed (exit code 1): one line saying where and what is still good."""
