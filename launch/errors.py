"""What a user can do wrong when starting a job."""

from __future__ import annotations


class LaunchInputError(Exception):
    """A launch option or command line that cannot be used: one line, exit code 2."""
