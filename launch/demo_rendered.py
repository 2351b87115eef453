"""What the demo learns from when nobody gives it images: rendered identities, and others for the test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_pipeline.rendered import write_rendered_dataset, write_rendered_pairs


@dataclass(frozen=True)
class RenderedSet:
    """How many rendered people and images; chosen so that two CPU cores need at most four minutes in all."""

    identities: int = 1000
    """People to train on."""
    views: int = 12
    """Images of each."""
    unseen: int = 200
    """Other people, of whom the verification pairs are."""
    pairs: int = 600
    """Verification pairs, half of them of one person."""
    size: int = 48
    """Height and width of the images, pixels."""
    seed: int = 0

    def write(self, train: Path, pairs: Path) -> str:
        """Write what is missing of the record folder and the `.bin`; return what they are in a sentence."""
        if not train.exists():
            write_rendered_dataset(train, range(self.identities), self.views, seed=self.seed, size=self.size)
        if not pairs.exists():
            unseen = range(self.identities, self.identities + self.unseen)
            write_rendered_pairs(pairs, unseen, self.pairs, seed=self.seed, size=self.size)
        return (
            f"rendered faces (no real people): trained on {self.identities} identities, "
            f"{self.identities * self.views:,} images of {self.size}×{self.size}; "
            f"tested on {self.pairs} pairs of {self.unseen} others"
        )
