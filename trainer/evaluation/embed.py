"""Embeddings of encoded images, each rank its slice of them, all of them on every rank.

An image's embedding is the network's output for it beside the output for its mirror image, concatenated as in
the paper (Wang et al. 2018, section 4.1): the cosine of two such vectors weighs both views. (insightface adds
the two outputs instead.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from data_pipeline.errors import DataInputError
from data_pipeline.images.decode import decode_images, normalise
from trainer.errors import TrainerInputError, TrainingFailed
from trainer.ranks import FailedElsewhere, Ranks, exit_code

Embed = Callable[[Tensor], Tensor]

# What can go wrong, in the order in which ranks agree on the first of them: the work of a rank, or an image.
_FAILED, _UNREADABLE, _ZERO, _NOT_FINITE, _FINE = range(5)
_STRIDE = 2**60


def embed_images(
    embed: Embed,
    payloads: Sequence[bytes],
    image_size: tuple[int, int],
    device: torch.device,
    ranks: Ranks | None = None,
    batch_size: int = 64,
) -> Tensor:
    """[n, 2 * dim] float32 on the CPU: image and mirror, the same on every rank.

    embed: [b, 3, H, W] float32 on ``device`` to [b, dim], in evaluation mode; payloads: n encoded images,
    the same list on every rank. Every rank must call this together.
    Raises TrainerInputError naming the first image that cannot be decoded, TrainingFailed naming the first
    whose embedding is zero or not finite; on every rank the same. Any other error of a rank is raised there,
    FailedElsewhere on the others.
    """
    ranks = ranks or Ranks()
    if batch_size < 1:
        raise TrainerInputError(f"the batch size must be at least 1, got {batch_size}")
    if not payloads:
        raise TrainerInputError("there is no image to embed")
    first, last = ranks.slice_of(len(payloads))
    parts: list[Tensor] = []
    fault = (_FINE, 0)
    error: Exception | None = None
    try:
        with torch.no_grad():
            for start in range(first, last, batch_size):
                batch = payloads[start : min(start + batch_size, last)]
                images = _decode(batch, image_size)
                if isinstance(images, int):
                    fault = (_UNREADABLE, start + images)
                    break
                part = _image_and_mirror(embed, images.to(device))
                parts.append(part)
                fault = min(fault, _first_fault(part, start))
            if not parts:  # more ranks than images, or a first batch that is damaged: the width is needed
                probe = torch.zeros(1, 3, *image_size, device=device)
                parts.append(_image_and_mirror(embed, probe)[:0])
    except Exception as caught:
        # Such as no memory left: the others must hear of it in the exchange that they are about to make.
        error, fault = caught, (_FAILED, ranks.rank * 256 + exit_code(caught))
    _raise_together(fault, error, len(payloads), ranks)
    return _gather(torch.cat(parts), len(payloads), ranks)


def _decode(payloads: Sequence[bytes], image_size: tuple[int, int]) -> Tensor | int:
    """The normalised images [b, 3, H, W], or the place of the first that is none."""
    try:
        return normalise(decode_images(payloads, image_size))
    except DataInputError:
        for index, payload in enumerate(payloads):
            try:
                decode_images([payload], image_size)
            except DataInputError:
                return index
        raise


def _image_and_mirror(embed: Embed, images: Tensor) -> Tensor:
    """[b, 3, H, W] to [b, 2 * dim] on the CPU."""
    return torch.cat([embed(images), embed(images.flip(3))], dim=1).float().cpu()


def _first_fault(part: Tensor, start: int) -> tuple[int, int]:
    lengths = torch.linalg.vector_norm(part.double(), dim=1)
    for kind, bad in ((_ZERO, lengths == 0), (_NOT_FINITE, ~lengths.isfinite())):
        if bad.any():
            return kind, start + int(bad.nonzero()[0])
    return _FINE, 0


def _raise_together(fault: tuple[int, int], error: Exception | None, count: int, ranks: Ranks) -> None:
    # A rank that raised alone would leave the others waiting in the gather.
    code = -ranks.maximum(-(fault[0] * _STRIDE + fault[1]))
    kind, index = divmod(code, _STRIDE)
    if kind == _FAILED:
        rank, ends_with = divmod(index, 256)
        if error is not None and rank == ranks.rank:
            raise error
        raise FailedElsewhere(rank, ends_with)
    if kind == _UNREADABLE:
        raise TrainerInputError(
            f"image {index} of {count} cannot be decoded: JPEG or PNG expected; build the file again"
        )
    if kind != _FINE:
        what = "zero" if kind == _ZERO else "not finite"
        raise TrainingFailed(f"the embedding of image {index} of {count} is {what}: it has no direction")


def _gather(local: Tensor, count: int, ranks: Ranks) -> Tensor:
    """All ranks' rows in order: [count, width] on the CPU of every rank."""
    # Exchanges want equal sizes: every slice is padded to the longest.
    longest = -(-count // ranks.world_size)
    padded = local.new_zeros(longest, local.shape[1])
    padded[: len(local)] = local
    borders = [count * rank // ranks.world_size for rank in range(ranks.world_size + 1)]
    lengths = [last - first for first, last in pairwise(borders)]
    return torch.cat([part[:length] for part, length in zip(ranks.stack(padded), lengths, strict=True)])
