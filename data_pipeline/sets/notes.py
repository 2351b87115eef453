"""What a person should know of a set before training on it, though nothing is wrong with it."""

from __future__ import annotations

from data_pipeline.source import ImageSource


def notes_on(source: ImageSource) -> list[str]:
    """A line for each thing that is done with the set's images without being asked for."""
    notes = []
    if not source.uniform:
        height, width = source.image_size
        notes.append(
            f"{source.name}: its images have more than one size, each is brought to {height} x {width}; "
            "--data.image-size chooses another"
        )
    return notes
