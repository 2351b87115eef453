"""The auxiliary losses as their papers write them: loops over images in float64, torch differentiates."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def mean(terms: list[Tensor]) -> Tensor:
    """Of the terms above 0; 0 where there are none."""
    above = [term for term in terms if term > 0]
    return torch.stack(above).mean() if above else torch.tensor(0.0, dtype=torch.float64)


def contrastive(images: Tensor, labels: Tensor, positive_margin: float, negative_margin: float) -> Tensor:
    """Hadsell et al., eq. 4, by pairs of either kind."""
    terms: dict[bool, list[Tensor]] = {True: [], False: []}
    for i, j in itertools.combinations(range(len(images)), 2):
        if min(labels[i], labels[j]) >= 0:
            same = bool(labels[i] == labels[j])
            distance = (images[i] - images[j]).norm()
            missing = distance - positive_margin if same else negative_margin - distance
            terms[same].append(0.5 * missing.clamp_min(0) ** 2)
    return mean(terms[True]) + mean(terms[False])


def triplet(images: Tensor, labels: Tensor, margin: float, mining: str) -> Tensor:
    """Schroff et al., eq. 3, over the triplets that `mining` takes."""
    terms = []
    for a, p, n in itertools.permutations(range(len(images)), 3):
        if labels[a] == labels[p] != labels[n] and min(labels[a], labels[n]) >= 0:
            near = (images[a] - images[p]).square().sum()
            far = (images[a] - images[n]).square().sum()
            if mining == "all" or (mining == "semihard") == bool(far > near):
                terms.append((near - far + margin).clamp_min(0))
    return mean(terms)


def center(images: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
    """Wen et al., eq. 2, as a mean."""
    labelled = [i for i in range(len(images)) if labels[i] >= 0]
    terms = [0.5 * (images[i] - centres[labels[i]]).square().sum() for i in labelled]
    return torch.stack(terms).mean() if terms else torch.tensor(0.0, dtype=torch.float64)


def moved_centres(images: Tensor, labels: Tensor, centres: Tensor, rate: float) -> Tensor:
    """Wen et al., eq. 4."""
    moved = centres.clone()
    for j in range(len(centres)):
        own = [i for i in range(len(images)) if labels[i] == j]
        delta = sum((centres[j] - images[i] for i in own), torch.zeros_like(centres[j])) / (1 + len(own))
        moved[j] = centres[j] - rate * delta
    return moved
