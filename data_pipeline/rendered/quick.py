"""Rendered identities for load tests: pictures mixed of a few drawn ones, forty times as fast as drawing.

A picture is a blend of two of a pool of drawn faces under a colour of its own, moved and lit as the view
says. An identity is (two faces, blend, colour), so that views of one are alike and two identities are not;
but noses and eyes of different identities come from the same few faces. Use it to load a trainer, a loader
or a network with any number of identities, not to learn or to measure recognition: for those there is
`face.py`.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from data_pipeline.order.hashing import hash_words, uniform
from data_pipeline.rendered.face import render_face

Ints = npt.NDArray[np.int64]

POOL = 32
MARGIN = 8  # pixels of a pool picture of 112 around what is shown, for the shift
_IDENTITY, _VIEW, _POOL = 11, 12, 13  # streams of the seed
_FACES_DRAWN_FROM = 1 << 40  # pool faces have numbers that no identity of a set has
_LEVELS = np.arange(256, dtype=np.float32)[:, None]


def quick_jpegs(identities: Ints, views: Ints, seed: int = 0, size: int = 112) -> list[npt.NDArray[np.uint8]]:
    """JPEGs of these identities in these views, uint8 [bytes] each; identities, views: int64 [n].

    Each depends on its (identity, view), seed and size alone. The first call for a seed and size draws the
    pool.
    """
    pool = _pool(seed, size)
    margin = pool.shape[1] - size
    numbers = np.arange(6)
    who = uniform(hash_words(seed, _IDENTITY, identities[:, None], numbers))  # [n, 6]
    how = uniform(hash_words(seed, _VIEW, identities[:, None], views[:, None], numbers))
    first = (who[:, 0] * POOL).astype(int)
    # A second face that is never the first.
    second = (first + 1 + (who[:, 1] * (POOL - 1)).astype(int)) % POOL
    blend = 0.5 + 0.35 * who[:, 2]
    colour = (0.7 + 0.5 * who[:, 3:]) * (0.8 + 0.35 * how[:, :1]) * (0.95 + 0.1 * how[:, 1:4])  # [n, 3]
    offset = 12 * how[:, 4]
    place = (hash_words(seed, _VIEW, identities, views, 6) >> np.uint64(1)).astype(np.int64)
    down, right = place % (margin + 1), place // (margin + 1) % (margin + 1)
    quality = (80 + 15 * how[:, 5]).astype(int)
    made = []
    for at in range(len(identities)):
        across = slice(int(right[at]), int(right[at]) + size)
        part = slice(int(down[at]), int(down[at]) + size)
        weight = float(blend[at])
        mixed = cv2.addWeighted(
            pool[first[at], part, across], weight, pool[second[at], part, across], 1 - weight, 0.0
        )
        curve = np.minimum(_LEVELS * colour[at].astype(np.float32) + np.float32(offset[at]), 255)
        lit = cv2.LUT(mixed, curve.astype(np.uint8)[:, None, :])
        made.append(cv2.imencode(".jpg", lit, [cv2.IMWRITE_JPEG_QUALITY, int(quality[at])])[1])
    return [np.asarray(jpeg, dtype=np.uint8) for jpeg in made]


@lru_cache(maxsize=2)
def _pool(seed: int, size: int) -> npt.NDArray[np.uint8]:
    """[POOL, size + margin, size + margin, 3] BGR."""
    side = size + max(1, 2 * MARGIN * size // 112)
    start = _FACES_DRAWN_FROM + int(hash_words(seed, _POOL)[0] >> np.uint64(40))
    faces = [render_face(start + number, 0, seed, side)[:, :, ::-1] for number in range(POOL)]
    return np.ascontiguousarray(np.stack(faces))
