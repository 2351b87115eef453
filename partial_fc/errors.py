"""What a user of the classifier can do wrong."""

from __future__ import annotations


class HeadInputError(Exception):
    """Arguments of the head that cannot be used: one line saying what was expected and what was found."""


class LabelError(HeadInputError):
    """Labels of a wrong type, shape or range."""


class CollectiveError(RuntimeError):
    """An exchange between ranks that failed or did not finish before its deadline."""


def require(holds: bool, name: str, expected: str, found: object) -> None:
    """Raise HeadInputError naming an option, what it must be and what it is, unless it holds."""
    if not holds:
        raise HeadInputError(f"{name} must be {expected}, got {found}")
