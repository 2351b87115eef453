"""The command `cosface render`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from data_pipeline.rendered.source import RenderedFaces, Style


@dataclass(frozen=True, kw_only=True)
class RenderOptions:
    """Writes rendered faces (no person is shown) as a record folder, to try things with."""

    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """The record folder to write; it must not exist or be empty."""
    identities: int = 100
    """Number of identities."""
    views: int = 10
    """Images of each."""
    seed: int = 0
    """Other faces for another seed."""
    size: int = 112
    """Height and width, pixels."""
    style: Style = "drawn"
    """drawn: every face has features of its own; quick: mixed of a few drawn ones, for load tests."""
    workers: int = 0
    """Processes that render; 0: one per processor."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"workers must be 0 or more, got {self.workers}")


def render(options: RenderOptions) -> int:
    """`cosface render`. Raises DataInputError."""
    from data_pipeline.rendered.write import write_source

    faces = RenderedFaces(
        options.identities, options.views, seed=options.seed, size=options.size, style=options.style
    )
    count = write_source(options.out, faces, options.workers or None)
    print(f"{options.out}: {count} rendered images of {options.identities} identities")
    return 0
