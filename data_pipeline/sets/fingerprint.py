"""What makes a set this set and no other, in a few hundred bytes.

A checkpoint's centres belong to a set's classes by number alone, and its position counts the set's images. Of
another set of as many images and classes every centre would be another person's, without a word. So a
checkpoint keeps the fingerprint of its set, and the ranks of a run compare theirs.

Where a set lies and what its folder is called make no difference: it may move. What counts, for each of the
sets of a run, in their order: how many images each class has, the class of every image, which images they
are (where records lie within their files, or files' names, and the bytes of some of them) and, where it
knows them, the names of its identities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from data_pipeline.errors import RecordError
from data_pipeline.sets.digests import Hash, digest_of_numbers, digest_of_texts
from data_pipeline.sets.merged import MergedSource
from data_pipeline.sets.source import ImageSource

# Images whose bytes are looked at: a few reads at random places at every start, enough to tell two sets of
# images of one length, or under the same names, from each other.
_LOOKED_AT = 16
_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class SetFingerprint:
    """One set's. name: what the user called it, which is told and never compared; the others are digests.

    identities: None where the set does not know its identities' names; then they are not compared.
    """

    name: str
    images: int
    classes: int
    counts: str
    labels: str
    content: str
    identities: str | None = None

    def differences(self, other: SetFingerprint) -> list[str]:
        """What differs, in words."""
        named = (
            ("number of images", self.images == other.images),
            ("number of identities", self.classes == other.classes),
            ("number of images of each identity", self.counts == other.counts),
            ("identity of each image", self.labels == other.labels),
            ("images or the order of them", self.content == other.content),
            ("names of the identities", self.identities == other.identities or not self._both_name(other)),
        )
        return [name for name, same in named if not same]

    def _both_name(self, other: SetFingerprint) -> bool:
        return self.identities is not None and other.identities is not None


@dataclass(frozen=True)
class Fingerprint:
    """Of the sets of a run, in their order."""

    sets: tuple[SetFingerprint, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Images and identities of all."""
        return sum(one.images for one in self.sets), sum(one.classes for one in self.sets)

    def differences(self, now: Fingerprint, there: str = "there", here: str = "here") -> str:
        """What is different in `now`, in words; empty if nothing is.

        there, here: what this fingerprint's place is called, and `now`'s.
        """
        if len(self.sets) != len(now.sets):
            return f"the number of sets is {len(self.sets)} {there} and {len(now.sets)} {here}"
        if not (changed := [pair for pair in zip(self.sets, now.sets, strict=True) if differ(*pair)]):
            return ""
        if (order := self._order_in(now)) is not None:
            names = " ".join(one.name for one in now.sets)
            return f"the order of the sets is {' '.join(order)} {there} and {names} {here}"
        return "; ".join(
            f"{new.name} differs in the {', '.join(old.differences(new))}" for old, new in changed
        )

    def _order_in(self, now: Fingerprint) -> list[str] | None:
        """The names that `now` gives this one's sets, in this one's order; None if they are others."""
        left = list(now.sets)
        order = []
        for one in self.sets:
            found = next((other for other in left if not differ(one, other)), None)
            if found is None:
                return None
            left.remove(found)
            order.append(found.name)
        return order


@runtime_checkable
class KnowsItsFingerprint(Protocol):
    """A set that has a quicker way to its fingerprint than `read_fingerprint`."""

    def fingerprint(self) -> SetFingerprint:
        """See SetFingerprint."""


def fingerprint(source: ImageSource) -> Fingerprint:
    """What makes this set, or these sets, no other; names of identities and some images are read.

    Milliseconds for a set of any size whose table is kept (see `table_store`), else about a second for 40M
    images.
    """
    parts = source.parts if isinstance(source, MergedSource) else (source,)
    return Fingerprint(
        tuple(
            part.fingerprint() if isinstance(part, KnowsItsFingerprint) else read_fingerprint(part)
            for part in parts
        )
    )


def read_fingerprint(source: ImageSource) -> SetFingerprint:
    """The fingerprint of a set that knows nothing of its own about it; every label is asked for."""
    labels = Hash()
    for start in range(0, source.num_images, _AT_ONCE):
        indices = np.arange(start, min(start + _AT_ONCE, source.num_images))
        labels.numbers(source.labels_of(indices), "<i4")
    return SetFingerprint(
        source.name,
        source.num_images,
        source.num_classes,
        digest_of_numbers(source.class_counts(), "<i8"),
        labels.hexdigest(),
        digest_of_some_images(source),
        digest_of_names(source),
    )


def digest_of_some_images(source: ImageSource, *, of_all: str = "") -> str:
    """Of the bytes of a few images all over the set, and of what is known of all of them."""
    made = Hash()
    made.piece(of_all.encode())
    for index in np.unique(np.linspace(0, source.num_images - 1, _LOOKED_AT).astype(np.int64)):
        try:
            made.piece(source.payloads(np.array([index]))[0])
        except RecordError:
            made.piece(b"damaged")
    return made.hexdigest()


def digest_of_names(source: ImageSource) -> str | None:
    """Of the identities' names; None if the set does not know them."""
    names = source.identity_names()
    return None if names is None else digest_of_texts(names)


def differ(one: SetFingerprint, other: SetFingerprint) -> bool:
    """Whether two sets are not the same."""
    return bool(one.differences(other))
