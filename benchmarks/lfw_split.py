"""Lay out the small real-face experiment: train on nine of LFW's ten sets of people, test on the tenth.

    python benchmarks/lfw_split.py ../shared/data WORK --fold 1

writes WORK/train (the nine sets of people, aligned by MTCNN, with FIW and Glint360K's 16 identities behind
them, as one record folder) and WORK/lfw-fold1.bin (the 600 pairs of View 2's fold 1). No person of the
test pairs is in the training set. RESULTS.md says which command then trains, and what came out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from data_pipeline.pack.pack import pack
from data_pipeline.pairs import build_pairs
from data_pipeline.sets.record_folder import FaceDataset
from data_pipeline.sets.writer import FaceDatasetWriter


def people_by_set(people_txt: Path) -> list[list[str]]:
    """The people of each of LFW's View 2 sets, as people.txt lists them."""
    lines = iter(people_txt.read_text(encoding="utf-8").splitlines())
    return [[next(lines).split("\t")[0] for _ in range(int(next(lines)))] for _ in range(int(next(lines)))]


def images_of(folders: list[Path]) -> Iterator[tuple[int, bytes]]:
    """All images of several record folders, the classes of each behind those of the one before."""
    offset = 0
    for folder in folders:
        with FaceDataset.open(folder) as dataset:
            for index in dataset.labels.argsort(kind="stable"):
                yield offset + int(dataset.labels[index]), bytes(dataset.payload(int(index)))
            offset += dataset.num_classes


def main() -> None:
    """Read the arguments, write the two sets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with lfw/, fiw/ and glint16/")
    parser.add_argument("work", type=Path)
    parser.add_argument("--fold", type=int, default=1)
    options = parser.parse_args()
    lfw = options.data / "lfw"

    links = options.work / "nine-sets-images"
    links.mkdir(parents=True)
    for number, people in enumerate(people_by_set(lfw / "people.txt"), start=1):
        for name in people if number != options.fold else []:
            (links / name).symlink_to((lfw / "images" / name).absolute())
    pack(links, options.work / "nine-sets", align="mtcnn", size=(112, 112), quality=95, workers=None)
    folders = [options.work / "nine-sets", options.data / "fiw", options.data / "glint16"]
    with FaceDatasetWriter(options.work / "train", None, (112, 112)) as writer:
        for label, payload in images_of(folders):
            writer.add(label, payload)
    print(f"{options.work / 'train'}: {writer.num_images} images of {writer.num_classes} people")
    out = options.work / f"lfw-fold{options.fold}.bin"
    build_pairs(lfw / "pairs.txt", lfw / "images", out, fold=options.fold, align="mtcnn")
    print(f"{out}: the pairs of fold {options.fold}")


if __name__ == "__main__":
    main()
