"""What a person should know of a set before training on it, though nothing in it is damaged."""

from __future__ import annotations

from data_pipeline.sets.image_folder import ImageFiles
from data_pipeline.sets.layout import EXACT_IN_FLOAT32
from data_pipeline.sets.merged import MergedSource
from data_pipeline.sets.record_folder import FaceDataset
from data_pipeline.sets.source import ImageSource

# No set has so many identities without an image; a part of one may have a few.
_CLASSES_PER_IMAGE = 8


def notes_on(source: ImageSource) -> list[str]:
    """A line for each thing that is done with the set without being asked for, or that it may have lost."""
    notes = []
    if not source.uniform:
        height, width = source.image_size
        notes.append(
            f"{source.name}: its images have more than one size, each is brought to {height} x {width}; "
            "--data.image-size chooses another"
        )
    for part in parts_of(source):
        if isinstance(part, ImageFiles):
            notes += part.notes
        if is_sparse(part):
            notes.append(
                f"{part.name}: {part.num_classes} classes for {part.num_images} images; "
                "--data.min-images 1 leaves out those that have none"
            )
        if rounded := rounding(part):
            notes.append(f"{part.name}: its labels go up to {largest_label(part)}{rounded}")
    return notes


def parts_of(source: ImageSource) -> tuple[ImageSource, ...]:
    """The sets that it is made of, itself if it is one."""
    return source.parts if isinstance(source, MergedSource) else (source,)


def is_sparse(part: ImageSource) -> bool:
    """Whether classes are so much more than images that labels must be numbers of another kind."""
    return part.num_classes > _CLASSES_PER_IMAGE * part.num_images


def largest_label(part: ImageSource) -> int:
    """The largest class as the set's own files state it, before any were left out."""
    return part.largest_stated_class() if isinstance(part, FaceDataset) else part.num_classes - 1


def rounding(part: ImageSource) -> str:
    """What float32 may have done to the set's labels, as the end of a sentence; "" if nothing."""
    if not isinstance(part, FaceDataset) or largest_label(part) < EXACT_IN_FLOAT32:
        return ""
    return (
        f"; records keep labels as float32, which rounds whole numbers above {EXACT_IN_FLOAT32}, so that two "
        "people may have become one class already"
    )
