"""An inspection's report as text, without colours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from data_pipeline.inspection.duplicates import WIDEST_GROUP, Duplicates
from data_pipeline.inspection.report import DatasetReport, by_count, doubling_bins
from data_pipeline.sets.source import Origin

_BAR_WIDTH = 40
_LISTED = 20
_KINDS = {
    "file": "the same file",
    "pixels": "the same pixels (those among them)",
    "near": "much alike (those among them)",
}


def render(report: DatasetReport) -> str:
    """The report, long lists cut."""
    return "\n".join(
        [
            *_counts(report),
            "",
            *_sizes(report),
            "",
            *_classes(report),
            *_alike(report),
            *_handed_over(report),
            *_damage(report),
        ]
    )


def _counts(report: DatasetReport) -> Iterator[str]:
    yield report.name
    yield f"  images      {report.num_images:>12,}"
    if report.pairs is None:
        height, width = report.image_size
        yield f"  identities  {report.num_classes:>12,}"
        yield f"  {'stated size' if report.uniform else 'trained as '} {f'{height} x {width}':>12}"
    else:
        pairs = report.pairs
        yield f"  pairs       {pairs.num_pairs:>12,}"
        yield f"  same person {pairs.num_same:>12,}"
        yield f"  folds       {pairs.folds:>12,}"
    if report.file_bytes is not None:
        yield f"  record file {_size_text(report.file_bytes):>12}"
    low, median, high = report.bytes_per_image
    yield f"  image bytes {low:>12,} least, {median:,} median, {high:,} most"
    if report.refusal is not None:
        yield f"  cannot be opened for training: {report.refusal}"
    for note in report.notes:
        yield f"  note: {note}"


def _sizes(report: DatasetReport) -> Iterator[str]:
    yield "sizes (height x width)"
    lines = [f"  {f'{h} x {w}':>11}  {count:>10,}" for (h, w), count in by_count(report.sizes)]
    yield from _some(lines or ["  none"])


def _classes(report: DatasetReport) -> Iterator[str]:
    if report.pairs is not None:
        return
    yield "images per identity"
    bins = doubling_bins(report.images_per_identity)
    largest = max((identities for _, _, identities in bins), default=1)
    for first, last, identities in bins:
        name = str(first) if first == last else f"{first}-{last}"
        bar = "#" * -(-identities * _BAR_WIDTH // largest)
        yield f"  {name:>11}  {identities:>10,}  {bar}".rstrip()
    yield ""
    empty = report.empty_classes
    if not len(empty):
        yield f"label gaps: none, every class from 0 to {report.num_classes - 1} has an image"
    else:
        shown = ", ".join(map(str, empty[:_LISTED])) + (", ..." if len(empty) > _LISTED else "")
        yield f"label gaps: {len(empty):,} classes without an image: {shown}"
    if report.first_out_of_order is not None:
        many = f"{report.out_of_order:,} images have a lower class than the one before"
        yield f"class order: {many}; first: {_place(report.first_out_of_order)}"
    else:
        yield "class order: rising"
    if report.other_labels:
        many = f"{len(report.other_labels):,} images state another class"
        yield f"other labels: {many} than the identity records"
        yield from _some(
            [f"  {_place(one.origin)}: its own record states {one.stated:g}" for one in report.other_labels]
        )
    yield ""


def _alike(report: DatasetReport) -> Iterator[str]:
    if not report.duplicates:
        yield from ("duplicates: not looked for", "")
    for kind, found in report.duplicates.items():
        if report.pairs is not None:
            yield f"different images, {_KINDS[kind]} counted once: {report.num_images - found.num_surplus:,}"
            continue
        head = f"duplicates, {_KINDS[kind]}"
        if not found.groups:
            yield f"{head}: none"
            continue
        groups = f"{len(found.groups):,} groups, {found.num_surplus:,} too many"
        yield f"{head}: {found.num_images:,} images in {groups}"
        yield f"  within an identity  {found.num_within:>8,} groups"
        yield f"  across identities   {len(found.across):>8,} groups"
        yield from _shared(report, found)
    if report.duplicates:
        yield ""
    if report.pairs is None:
        return
    for what, numbers in (
        ("marked same", report.pairs.identical_same), ("marked DIFFERENT", report.pairs.identical_different),
    ):  # fmt: skip
        shown = ", ".join(map(str, numbers[:_LISTED])) + (", ..." if len(numbers) > _LISTED else "")
        yield f"pairs of one image with itself, {what}: {len(numbers)}" + (
            f": pair {shown}" if numbers else ""
        )
    yield ""


def _shared(report: DatasetReport, found: Duplicates) -> Iterator[str]:
    """Which identities share images, and one of the images."""
    examples: dict[tuple[int, int], str] = {}
    wanted = set(list(found.class_pairs)[:_LISTED])
    for place in found.across:
        members = {
            int(label): int(index)
            for index, label in zip(found.groups[place], found.labels[place], strict=True)
        }
        for one, other in wanted - examples.keys():
            if one in members and other in members:
                shown = [report.origins[members[label]] for label in (one, other)]
                names = [str(at.key) if at.file.suffix == ".rec" else str(at.file) for at in shown]
                examples[one, other] = "{} and {}".format(*names)
    yield from _some(
        [
            f"    classes {one} and {other}: {shared} shared, {examples.get((one, other), '')}".rstrip(", ")
            for (one, other), shared in found.class_pairs.items()
        ]
    )
    if found.widest > WIDEST_GROUP:
        yield f"    one image stands in {found.widest:,} classes: a placeholder?"


def _handed_over(report: DatasetReport) -> Iterator[str]:
    if not report.handed_over or report.pairs is not None:
        return
    yield f"decoded by OpenCV, with DALI too: {sum(report.handed_over.values()):,} images"
    for reason, count in sorted(report.handed_over.items(), key=lambda item: (-item[1], item[0])):
        yield f"  {count:>10,}  {reason}"
    yield ""


def _damage(report: DatasetReport) -> Iterator[str]:
    if not report.damaged:
        yield "damaged records: none"
        return
    yield f"damaged records: {len(report.damaged)}"
    yield from _some([f"  {_place(one.origin, named=True)}: {one.reason}" for one in report.damaged])


def _place(origin: Origin, named: bool = False) -> str:
    """Where an image is; named: with the record file's name, which is often the same for all."""
    name = f"{origin.file}: " if named else ""
    if origin.file.suffix == ".bin":
        return f"{name}image {origin.key} of pair {origin.label}"
    label = f"class {origin.label}" if origin.label >= 0 else "class unknown"
    if origin.file.suffix == ".rec":
        byte = f" at byte {origin.offset}" if origin.offset >= 0 else ""
        return f"{name}record {origin.key}{byte}, {label}"
    return f"{origin.file}, {label}"


def _some(lines: list[str]) -> Iterable[str]:
    more = len(lines) - _LISTED
    return lines if more <= 0 else [*lines[:_LISTED], f"  and {more} more"]


def _size_text(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"
