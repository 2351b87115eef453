"""What a user of the classifier can do wrong."""

from __future__ import annotations


class HeadInputError(Exception):
    """Arguments of the head that cannot be used: one line saying what was expected and what was found."""


class LabelError(HeadInputError):
    """Labels of a wrong type, shape or range."""


class CollectiveError(RuntimeError):
    """An exchange between ranks that failed or did not finish before its deadline."""
