"""An order for slow disks: random over blocks of neighbouring images, and within windows of such blocks.

The blocks of `block` images in storage order are permuted by (seed, epoch); every `window` blocks of that
make a window, whose images are permuted by (seed, epoch, window). Reading only ever touches the blocks of one
window, and of the next while a step crosses its border. All is computed per index; of a window its blocks
alone are listed, for reading ahead.

What it costs: the images of a block are near each other in every epoch. Storage is mostly sorted by
identity, so take a window of many blocks and blocks of few identities.
"""

from __future__ import annotations

import numpy as np

from data_pipeline.order.hashing import Words, hash_words
from data_pipeline.order.permutation import permute, place_of
from data_pipeline.order.whole_set import Ints, slice_of_epochs

# Set apart the keys of this order's two permutations from each other and from GlobalOrder's.
_BLOCKS, _IMAGES = 0x626C6F636B73, 0x696D61676573


class BlockOrder:
    """Every image once an epoch, in an order that is random within windows of `window` random blocks.

    Raises ValueError if a number is below 1. One window of all blocks is a global order.
    """

    group = 1

    def __init__(self, num_images: int, seed: int, block: int, window: int) -> None:
        if not 1 <= num_images < 1 << 62:
            raise ValueError(f"num_images must be at least 1, got {num_images}")
        if block < 1 or window < 1:
            raise ValueError(f"block and window must be at least 1, got {block} and {window}")
        self.num_images = num_images
        self.seed = seed
        self.block = min(block, num_images)
        self.num_blocks = -(-num_images // self.block)
        self.window = min(window, self.num_blocks)
        self.num_windows = -(-self.num_blocks // self.window)
        # By so many images the last block is shorter than the others.
        self._missing = self.num_blocks * self.block - num_images

    @property
    def epoch_length(self) -> int:
        """As many positions as images."""
        return self.num_images

    @property
    def window_images(self) -> int:
        """The most images a window has: what a reader must be able to hold at a time."""
        return min(self.window * self.block, self.num_images)

    def slice(self, position: int, count: int) -> tuple[Ints, Ints]:
        """Epochs and images at positions [position, position + count): int64 [count] each."""
        return slice_of_epochs(self.permute, self.num_images, position, count)

    def permute(self, epoch: int, places: Ints) -> Ints:
        """The images at these places (each in [0, num_images)) of an epoch, int64 [n]."""
        short = self._short_slot(epoch)
        windows = self._slots(places, short) // self.window
        starts, sizes = self._spans(windows, short)
        keys = hash_words(self.seed, _IMAGES, epoch, windows)
        moved = starts + permute(places - starts, sizes, keys)
        slots = self._slots(moved, short)
        blocks = permute(slots, self.num_blocks, self._block_key(epoch))
        return blocks * self.block + moved - self._starts(slots, short)

    def place_of(self, epoch: int, images: Ints) -> Ints:
        """The places of these images in an epoch: the inverse of `permute`, int64 [n]."""
        short = self._short_slot(epoch)
        blocks = images // self.block
        slots = place_of(blocks, self.num_blocks, self._block_key(epoch))
        moved = self._starts(slots, short) + images - blocks * self.block
        windows = slots // self.window
        starts, sizes = self._spans(windows, short)
        keys = hash_words(self.seed, _IMAGES, epoch, windows)
        return starts + place_of(moved - starts, sizes, keys)

    def window_of(self, position: int) -> int:
        """The window that is read at this position, counted from the sequence's start on."""
        epoch, place = divmod(position, self.num_images)
        slot = self._slots(np.array([place]), self._short_slot(epoch))[0]
        return epoch * self.num_windows + int(slot) // self.window

    def ranges(self, window: int) -> list[tuple[int, int]]:
        """What a window reads: [first, last) images in storage order, ascending, neighbours joined."""
        epoch, number = divmod(window, self.num_windows)
        first = number * self.window
        slots = np.arange(first, min(first + self.window, self.num_blocks), dtype=np.int64)
        blocks = np.sort(permute(slots, self.num_blocks, self._block_key(epoch)))
        ends = np.flatnonzero(np.diff(blocks, append=self.num_blocks + 1) != 1)
        begins = np.concatenate([[0], ends[:-1] + 1])
        lasts = np.minimum((blocks[ends] + 1) * self.block, self.num_images)
        return list(zip((blocks[begins] * self.block).tolist(), lasts.tolist(), strict=True))

    def upcoming(self, position: int) -> list[tuple[int, int]]:
        """The ranges that the window after the one at `position` will read, to have them read ahead."""
        return self.ranges(self.window_of(position) + 1)

    def _block_key(self, epoch: int) -> Words:
        return hash_words(self.seed, _BLOCKS, epoch)

    def _short_slot(self, epoch: int) -> int:
        """Where the last block, the one that may be short, stands among the permuted blocks."""
        last = np.array([self.num_blocks - 1], dtype=np.int64)
        return int(place_of(last, self.num_blocks, self._block_key(epoch))[0])

    def _starts(self, slots: Ints, short: int) -> Ints:
        """Places at which the blocks in these slots start: those after the short one come earlier."""
        return slots * self.block - self._missing * (slots > short)

    def _slots(self, places: Ints, short: int) -> Ints:
        """Slots of the blocks that these places belong to."""
        first_after = (short + 1) * self.block - self._missing
        return (places + self._missing * (places >= first_after)) // self.block

    def _spans(self, windows: Ints, short: int) -> tuple[Ints, Ints]:
        """First place and number of images of each window."""
        first = windows * self.window
        starts = self._starts(first, short)
        return starts, self._starts(np.minimum(first + self.window, self.num_blocks), short) - starts
