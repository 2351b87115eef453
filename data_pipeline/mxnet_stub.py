"""A stand-in for the package `mxnet`, for code that reads its records with it and needs no more of it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from data_pipeline.errors import DataInputError

_OFFERED = "recordio, image.imdecode"


def install() -> bool:
    """Put `mxnet.recordio` and `mxnet.image.imdecode` of ours where `import mxnet` finds them.

    Does nothing if the real mxnet imports; says whether the stand-in is there now. Anything else asked of
    it is an AttributeError or ModuleNotFoundError that says so.
    """
    present = sys.modules.get("mxnet")
    if isinstance(present, _Package):
        return True
    before = set(sys.modules)
    try:
        importlib.import_module("mxnet.recordio")
    except Exception:
        # Absent, or of a time before today's numpy: what it left half imported must go.
        for name in set(sys.modules) - before | {"mxnet"}:
            if name == "mxnet" or name.startswith("mxnet."):
                sys.modules.pop(name, None)
    else:
        return False
    recordio = importlib.import_module("data_pipeline.mxnet_recordio")
    package = _Package("mxnet")
    image = _Package("mxnet.image")
    image.imdecode = imdecode
    package.recordio, package.image = recordio, image
    sys.modules.update({"mxnet": package, "mxnet.recordio": recordio, "mxnet.image": image})
    if not any(isinstance(finder, _NothingElse) for finder in sys.meta_path):
        sys.meta_path.insert(0, _NothingElse())
    return True


class HostArray(np.ndarray[Any, np.dtype[np.uint8]]):
    """A numpy array with the one method of mxnet's arrays that reading code calls."""

    def asnumpy(self) -> npt.NDArray[np.uint8]:
        """The same as a plain array."""
        return np.asarray(self)


def imdecode(buf: bytes, flag: int = 1, to_rgb: bool | int = True) -> HostArray:
    """An encoded image as uint8 [height, width, 3], RGB if so wanted, or [height, width, 1] for flag 0.

    Raises DataInputError if it cannot be decoded.
    """
    encoded = np.frombuffer(buf, dtype=np.uint8)
    image = (
        cv2.imdecode(encoded, cv2.IMREAD_COLOR if flag else cv2.IMREAD_GRAYSCALE) if len(encoded) else None
    )
    if image is None:
        raise DataInputError(f"{len(encoded)} bytes cannot be decoded as an image")
    if not flag:
        image = image[:, :, None]
    elif to_rgb:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return image.view(HostArray)


class _Package(ModuleType):
    recordio: ModuleType
    image: ModuleType
    imdecode: Any

    def __init__(self, name: str) -> None:
        super().__init__(name, __doc__)
        self.__spec__ = ModuleSpec(name, None, is_package=True)
        self.__path__: list[str] = []
        self.__file__ = __file__

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(_missing(f"{self.__name__}.{name}"))


class _NothingElse(MetaPathFinder):
    """Says what is missing when another submodule of the stand-in is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse submodules of the stand-in; leave every other module to others."""
        if fullname.startswith("mxnet.") and isinstance(sys.modules.get("mxnet"), _Package):
            raise ModuleNotFoundError(_missing(fullname), name="mxnet")
        return None


def _missing(name: str) -> str:
    return f"{name}: cosface's stand-in for mxnet has {_OFFERED} and nothing else; install mxnet for more"
