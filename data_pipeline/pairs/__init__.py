"""Verification pair sets: the `.bin` file, and the lists of pairs that it is made of."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_pipeline.pairs.build import PairsReport, build_pairs
    from data_pipeline.pairs.formats.lfw import ListedPair, read_lfw_pairs
    from data_pipeline.pairs.pair_set import PairSet, read_bin, write_bin

__all__ = ["ListedPair", "PairSet", "PairsReport", "build_pairs", "read_bin", "read_lfw_pairs", "write_bin"]

_FILES = {
    "PairSet": "pair_set",
    "read_bin": "pair_set",
    "write_bin": "pair_set",
    "PairsReport": "build",
    "build_pairs": "build",
    "ListedPair": "formats.lfw",
    "read_lfw_pairs": "formats.lfw",
}


def __getattr__(name: str) -> Any:
    """Building brings in decoding and alignment: only who asks for it waits."""
    if name in _FILES:
        return getattr(import_module(f"data_pipeline.pairs.{_FILES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
