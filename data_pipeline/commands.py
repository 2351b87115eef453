"""The data commands: `cosface pack`, `cosface pairs`, `cosface unpack`, `cosface inspect`."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from data_pipeline.errors import DataInputError
from data_pipeline.images.prepare import Alignment, Preparation
from data_pipeline.pairs.reading import PairFormat


@dataclass(frozen=True, kw_only=True)
class PreparationOptions:
    """What becomes of every image, and by how many processes."""

    align: Alignment = "none"
    """mtcnn: find the face in each image and align it; landmarks: align by the points of --landmarks; none:
    the images are aligned already."""
    landmarks: Path | None = None
    """For --align landmarks: a text file with a path and ten numbers a line (eyes, nose, mouth corners)."""
    size: Annotated[tuple[int, int], arg(metavar="H W")] = (112, 112)
    """Height and width of the stored images, pixels."""
    quality: int = 95
    """JPEG quality, 1 to 100."""
    reencode: bool = False
    """Encode anew what is stored byte for byte otherwise: images of the size asked for, not aligned."""
    workers: int = 0
    """Processes that read and align; 0: one per processor."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"workers must be 0 or more, got {self.workers}")
        if self.align == "landmarks" and self.landmarks is None:
            raise ValueError("landmarks must name a file: --align landmarks needs one")
        if self.align != "landmarks" and self.landmarks is not None:
            raise ValueError(f"landmarks must go with --align landmarks, got --align {self.align}")
        Preparation(align=self.align, size=self.size, quality=self.quality)


@dataclass(frozen=True, kw_only=True)
class PackOptions(PreparationOptions):
    """Packs a folder of images, one sub-folder per identity, into a record folder to train on."""

    images: Annotated[Positional[Path], arg(metavar="IMAGES")]
    """Folder with one sub-folder of images per identity, or with the files of --list."""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """The record folder to write; it must not exist or be empty. An unfinished one is gone on with."""
    min_images: int = 1
    """Leave out identities with fewer images that can be used."""
    list: Path | None = None
    """Which file is of which identity, in place of the folders: a text file with a path and an identity a
    line, or insightface's or im2rec's .lst."""
    follow_links: bool = False
    """Take files that are links to files outside IMAGES, too."""
    identity_per_folder: bool = False
    """Take each folder in IMAGES for one identity, even if people's folders seem to lie one level deeper."""
    fresh: bool = False
    """Drop what an interrupted pack has done so far and start again."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_images < 1:
            raise ValueError(f"min_images must be 1 or more, got {self.min_images}")
        if self.list is not None and self.identity_per_folder:
            raise ValueError("identity_per_folder must go without --list, which says who is who")


@dataclass(frozen=True, kw_only=True)
class PairsOptions(PreparationOptions):
    """Makes a verification set (.bin) of a list of pairs and a folder of images."""

    pairs: Annotated[Positional[Path], arg(metavar="PAIRS.txt")]
    """The list: LFW's pairs.txt, CFP's folder Protocol/Split/FP, a table of two paths and a label, ..."""
    images: Annotated[Positional[Path], arg(metavar="IMAGES")]
    """Folder with the images that the list names (for LFW's: NAME/NAME_0001.jpg)."""
    out: Annotated[Positional[Path], arg(metavar="OUT.bin")]
    """The file to write."""
    fold: int | None = None
    """Only this fold, from 1."""
    format: PairFormat = "auto"
    """The list's format; auto: seen from the list. list: two paths and a label, in any columns. calfw: an
    image and a number a line, two lines a pair. fglfw: a path a line, two lines a pair."""
    outside: bool = False
    """Take images that do not lie in IMAGES too: ../, absolute paths, links that lead out."""
    align: Alignment = "mtcnn"


@dataclass(frozen=True)
class UnpackOptions:
    """Writes the images of a pair set (.bin) or of a record folder as files, byte for byte."""

    set: Annotated[Positional[Path], arg(metavar="SET")]
    """A .bin, or a record folder."""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """The folder to write; it must not exist or be empty."""


@dataclass(frozen=True)
class InspectOptions:
    """Looks at every image: counts, sizes, duplicates, labels, damage; exit code 1 if any is damaged."""

    dataset: Annotated[Positional[Path], arg(metavar="DATASET")]
    """A record folder, a folder of images or a .bin of pairs."""
    json: Path | None = None
    """Write all that was found to this file, as JSON."""
    plot: Path | None = None
    """Draw images per identity and bytes per image into this file (.png, .svg or .pdf)."""
    fast: bool = False
    """Read headers only: nothing is decoded, duplicates are not looked for."""
    near: bool = False
    """Look for one photograph encoded or cut a little otherwise, too."""
    threads: int = 0
    """Threads that decode; 0: one per processor."""
    follow_links: bool = False
    """Look at files that are links to files outside a folder of images, too."""

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise ValueError(f"threads must be 0 or more, got {self.threads}")
        if self.fast and self.near:
            raise ValueError("near needs the pixels, which fast does not decode: choose one")


def pack(options: PackOptions) -> int:
    """`cosface pack`. Raises DataInputError."""
    from data_pipeline.pack.pack import SKIPPED_FILE, pack

    try:
        report = pack(
            options.images,
            options.out,
            align=options.align,
            landmarks=options.landmarks,
            size=options.size,
            quality=options.quality,
            keep_bytes=not options.reencode,
            min_images=options.min_images,
            workers=options.workers or None,
            fresh=options.fresh,
            list_file=options.list,
            follow_links=options.follow_links,
            identity_per_folder=options.identity_per_folder,
        )
    except KeyboardInterrupt:
        print(f"\n{options.out}: stopped; the same command goes on where this one was")
        raise
    print(f"{options.out}: {report.num_images} images of {len(report.identities)} identities")
    for note in report.notes:
        print(f"note: {note}")
    if report.skipped:
        print(f"{len(report.skipped)} files left out, listed in {options.out / SKIPPED_FILE}:")
        _print_some([f"{_shown(path)}: {reason}" for path, reason in report.skipped])
    return 0


def pairs(options: PairsOptions) -> int:
    """`cosface pairs`. Raises DataInputError."""
    from data_pipeline.pairs import build_pairs

    report = build_pairs(
        options.pairs,
        options.images,
        options.out,
        form=options.format,
        fold=options.fold,
        align=options.align,
        landmarks=options.landmarks,
        size=options.size,
        quality=options.quality,
        keep_bytes=not options.reencode,
        outside=options.outside,
        workers=options.workers or None,
    )
    print(f"{options.out}: {report.num_pairs} pairs of {report.num_images} different images")
    if report.faceless:
        print(f"{len(report.faceless)} images without a face found, resized whole:")
        _print_some([_shown(path) for path in report.faceless])
    for note in report.notes:
        print(f"note: {note}")
    return 0


def unpack(options: UnpackOptions) -> int:
    """`cosface unpack`. Raises DataInputError."""
    from data_pipeline.pack.unpack import PAIRS_FILE, unpack_pairs, unpack_records

    if options.set.is_dir() or options.set.suffix == ".rec":
        report = unpack_records(options.set, options.out)
        print(f"{options.out}: {report.num_images} images of {report.num_groups} identities")
    else:
        report = unpack_pairs(options.set, options.out)
        print(f"{options.out / PAIRS_FILE}: {report.num_groups} pairs, {report.num_images} images")
    if report.damaged:
        print(f"{len(report.damaged)} records are damaged and left out:")
        _print_some(report.damaged)
    return 1 if report.damaged else 0


def inspect(options: InspectOptions) -> int:
    """`cosface inspect`. Raises DataInputError."""
    from data_pipeline.inspection.inspect import inspect_dataset
    from data_pipeline.inspection.look import Depth
    from data_pipeline.inspection.plot import plot
    from data_pipeline.inspection.text import render

    depth: Depth = "headers" if options.fast else "near" if options.near else "pixels"
    report = inspect_dataset(
        options.dataset, num_threads=options.threads or None, depth=depth, follow_links=options.follow_links
    )
    print(render(report))
    if options.plot is not None:
        plot(report, options.plot)
    if options.json is not None:
        try:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise DataInputError(f"{options.json}: cannot be written: {error.strerror}") from None
    return 1 if report.damaged else 0


def _shown(path: Path) -> str:
    """The path as text that every output takes: names need not be UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _print_some(lines: list[str], shown: int = 10) -> None:
    for line in lines[:shown]:
        print(f"  {line}")
    if len(lines) > shown:
        print(f"  and {len(lines) - shown} more")
