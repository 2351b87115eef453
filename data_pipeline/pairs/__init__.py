"""Verification pair sets: the `.bin` file, and the lists of pairs that it is made of."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_pipeline.pairs.build import PairSet, PairsReport, build_pairs, read_bin, write_bin
    from data_pipeline.pairs.formats.lfw import ListedPair, read_lfw_pairs

__all__ = ["ListedPair", "PairSet", "PairsReport", "build_pairs", "read_bin", "read_lfw_pairs", "write_bin"]


def __getattr__(name: str) -> Any:
    """Building brings in decoding and alignment: only who asks for it waits."""
    if name in ("ListedPair", "read_lfw_pairs"):
        from data_pipeline.pairs.formats import lfw

        return getattr(lfw, name)
    if name in __all__:
        from data_pipeline.pairs import build

        return getattr(build, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
