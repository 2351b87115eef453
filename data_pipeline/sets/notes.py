"""What a person should know of a set before training on it, though nothing is wrong with it."""

from __future__ import annotations

from data_pipeline.image_files import ImageFiles
from data_pipeline.merged import MergedSource
from data_pipeline.source import ImageSource


def notes_on(source: ImageSource) -> list[str]:
    """A line for each thing that is done with the set's images without being asked for."""
    notes: list[str] = []
    for part in source.parts if isinstance(source, MergedSource) else (source,):
        if isinstance(part, ImageFiles):
            notes += part.notes
    if not source.uniform:
        height, width = source.image_size
        notes.append(
            f"{source.name}: its images have more than one size, each is brought to {height} x {width}; "
            "--data.image-size chooses another"
        )
    return notes
