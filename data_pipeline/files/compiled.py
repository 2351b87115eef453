"""Loops compiled by numba when they are first called, and kept on disk where there is a place for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """The same, compiled; the interpreter is let go of while it runs. It may not call another one of these.

    numba is imported with the first call, for it takes a third of a second.
    """
    made = cache(lambda: compiled_now(function))

    @wraps(function)
    def call(*arguments: Any) -> Any:
        return made()(*arguments)

    return call  # type: ignore[return-value]


def compiled_now(function: Function) -> Any:
    """The same at once; loops that are compiled like this may call each other."""
    import numba

    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:
        # Neither beside the module nor in a home can anything be written: compiled for each process anew.
        return numba.njit(nogil=True)(function)
