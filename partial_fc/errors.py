"""What a user of the classifier can do wrong."""

from __future__ import annotations

import math
import operator
from contextlib import suppress
from typing import Any


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


def whole_number(name: str, expected: str, value: Any, low: int, high: float = math.inf) -> int:
    """An option as an int from low to high; numpy's are taken, texts, floats and booleans are not.

    Raises HeadInputError.
    """
    found = None
    if not isinstance(value, bool):
        with suppress(TypeError):
            found = operator.index(value)
    if found is None or not low <= found <= high:
        raise HeadInputError(f"{name} must be {expected}, got {shown(value)}")
    return found


def number(name: str, expected: str, value: Any) -> float:
    """An option as a float; numpy's and tensors of one number are taken, texts and booleans are not.

    Raises HeadInputError.
    """
    if not isinstance(value, str | bytes | bool):
        with suppress(TypeError, ValueError, OverflowError, RuntimeError):  # torch's for a tensor of several
            return float(value)
    raise HeadInputError(f"{name} must be {expected}, got {shown(value)}")


def shown(value: object) -> str:
    """A value as a message shows it: what it is, where its looks would not tell."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if value is None or isinstance(value, int | float):
        return str(value)[:40]
    return f"a {type(value).__name__}"
