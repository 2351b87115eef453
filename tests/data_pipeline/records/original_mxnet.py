"""The original `mxnet.recordio`, an oracle for ours."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from typing import Any

import numpy as np


def original() -> Any:
    """The module; its package itself does not import with today's numpy, a bare one takes its place."""
    if "mxnet" not in sys.modules:
        found = importlib.machinery.PathFinder.find_spec("mxnet")
        assert found is not None
        sys.modules["mxnet"] = importlib.util.module_from_spec(importlib.machinery.ModuleSpec("mxnet", None))
        sys.modules["mxnet"].__path__ = list(found.submodule_search_locations or [])
    return importlib.import_module("mxnet.recordio")


def packed(label: float | list[float], ident: int, payload: bytes) -> bytes:
    """What the original's `pack` makes, but for vector labels, with which it fails on today's numpy."""
    mxnet = original()
    if isinstance(label, list):
        vector = np.asarray(label, dtype=np.float32)
        header: bytes = mxnet.pack(mxnet.IRHeader(0, 0.0, ident, 0), b"")
        return len(label).to_bytes(4, "little") + header[4:] + vector.tobytes() + payload
    record: bytes = mxnet.pack(mxnet.IRHeader(0, label, ident, 0), payload)
    return record
