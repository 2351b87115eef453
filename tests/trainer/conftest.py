"""Fixtures of the trainer's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainer.tiny import write_tiny_set


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny set, read only."""
    return write_tiny_set(tmp_path_factory.mktemp("data") / "set")
