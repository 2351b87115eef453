"""The definition: dense float64 margin softmax on one device, by angles, differentiated by autograd.

Every loss as its paper writes it, on the whole [images, classes] matrix. Slow, plain, and sharing no code
with what it judges: of a margin it reads the class and the options.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from partial_fc.margins import (
    AdaFace,
    ArcFace,
    CombinedMargin,
    CosFace,
    CurricularFace,
    ElasticFace,
    LSoftmax,
    MagFace,
    Margin,
    NormalizedSoftmax,
    Softmax,
    SphereFace,
    SphereFaceNormFea,
)

Noise = Callable[[int], np.ndarray]
"""From a step, counted from 0, to [images] float64 standard normal numbers."""


def dense_step(
    embeddings: np.ndarray,
    labels: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    margin: Margin,
    *,
    steps: int = 1,
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    noise: Noise | None = None,
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray | None]:
    """Loss and embedding gradient of the first step, weight and bias after `steps` steps of torch's SGD.

    The margin's state moves before each step's loss.
    """
    x = torch.tensor(embeddings, dtype=torch.float64, requires_grad=True)
    w = torch.tensor(weight, dtype=torch.float64, requires_grad=True)
    b = None if bias is None else torch.tensor(bias, dtype=torch.float64, requires_grad=True)
    y = torch.tensor(labels)
    optimiser = torch.optim.SGD(
        [w] if b is None else [w, b], lr=lr, momentum=momentum, weight_decay=weight_decay
    )
    state, losses, gradients = margin.first_state(), [], []
    for step in range(steps):
        optimiser.zero_grad()
        x.grad = None
        state = next_state(x, y, w, margin, state)
        drawn = None if noise is None else torch.tensor(noise(step), dtype=torch.float64)
        loss = dense_loss(x, y, w, b, margin, state=state, step=step, noise=drawn)
        loss.backward()
        losses.append(loss.item())
        gradients.append(x.grad.numpy().copy())
        optimiser.step()
    after = w.detach().numpy(), None if b is None else b.detach().numpy()
    return losses[0], gradients[0], *after


def dense_loss(
    embeddings: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    margin: Margin,
    *,
    state: dict[str, float],
    step: int,
    noise: Tensor | None = None,
) -> Tensor:
    """Scalar: mean cross entropy and penalty over the labelled images, 0 if there is none.

    embeddings: [B, D] float64; labels: [B] int64, -1 = ignored; weight: [C·K, D] float64, of which class c
    has the rows cK … cK + K − 1; bias: [C] or None; noise: [B] float64, None for zeros.
    """
    labelled = labels >= 0
    if not labelled.any():
        return 0 * (embeddings.sum() + weight.sum() + (0 if bias is None else bias.sum()))
    images, targets = embeddings[labelled], labels[labelled]
    drawn = torch.zeros(len(images)).double() if noise is None else noise[labelled]
    norms = images.norm(dim=1)
    cosines = class_cosines(images, weight, margin)
    one_hot = torch.nn.functional.one_hot(targets, cosines.shape[1]).bool()
    target_cosine = cosines[one_hot]
    lengths = torch.ones_like(cosines)
    if isinstance(margin, Softmax | SphereFace | LSoftmax):
        lengths = lengths * norms[:, None]
    if isinstance(margin, Softmax | LSoftmax):
        lengths = lengths * weight.norm(dim=1)[None, :]
    changed = target_function(margin, target_cosine, norms, drawn, state, step)
    others = negative_function(margin, cosines, target_cosine[:, None], state)
    logits = margin.scale * lengths * torch.where(one_hot, changed[:, None], others)
    if bias is not None:
        logits = logits + bias[None, :]
    loss = torch.nn.functional.cross_entropy(logits, targets)
    if isinstance(margin, MagFace):
        loss = loss + (margin.weight * magface_g(margin, norms)).mean()
    return loss


def next_state(
    embeddings: Tensor, labels: Tensor, weight: Tensor, margin: Margin, state: dict[str, float]
) -> dict[str, float]:
    """What AdaFace and CurricularFace remember once they have seen the batch; shapes as in dense_loss."""
    images, targets = embeddings[labels >= 0].detach(), labels[labels >= 0]
    if isinstance(margin, AdaFace) and len(images) >= 2:
        norms = images.norm(dim=1).clamp(1e-3, 100)
        new, a = {"mean": norms.mean().item(), "std": norms.std(correction=1).item()}, margin.forgets
        return {name: a * new[name] + (1 - a) * state[name] for name in ("mean", "std")}
    if isinstance(margin, CurricularFace) and len(images) >= 1:
        cosines = class_cosines(images, weight.detach(), margin)
        r = cosines[torch.arange(len(images)), targets].mean().item()
        return {"t": margin.forgets * r + (1 - margin.forgets) * state["t"]}
    return state


def class_cosines(images: Tensor, weight: Tensor, margin: Margin) -> Tensor:
    """[B, C]: cos θ between image and class, the largest of its K rows'; 0 where one has no length."""
    per_class = getattr(margin, "centres_per_class", 1)
    lengths = images.norm(dim=1)[:, None] * weight.norm(dim=1)[None, :]
    cosines = images @ weight.T / torch.where(lengths > 0, lengths, 1.0)
    return cosines.unflatten(1, (-1, per_class)).max(dim=2).values


def target_function(
    margin: Margin,
    cosine: Tensor,
    norm: Tensor,
    noise: Tensor,
    state: dict[str, float],
    step: int,
) -> Tensor:
    """What stands at the target's place for cos θ, all arguments [B]: z_y = s (‖w‖) (‖x‖) times this."""
    if isinstance(margin, Softmax | NormalizedSoftmax):
        return cosine
    if isinstance(margin, CosFace):
        return cosine - margin.margin
    if isinstance(margin, ArcFace):
        if margin.straight_through:
            with torch.no_grad():
                moved = arcface(cosine, torch.full_like(cosine, margin.margin)) - cosine
            return cosine + moved
        return arcface(cosine, torch.full_like(cosine, margin.margin))
    if isinstance(margin, CurricularFace):
        return arcface(cosine, torch.full_like(cosine, margin.margin))
    if isinstance(margin, ElasticFace):
        drawn = margin.margin + margin.std * noise
        return cosine - drawn if margin.on == "cosine" else arcface(cosine, drawn.clamp(0, math.pi))
    if isinstance(margin, MagFace):
        a = norm.clamp(margin.norm_low, margin.norm_high)
        part = (a - margin.norm_low) / (margin.norm_high - margin.norm_low)
        return arcface(cosine, margin.margin_low + part * (margin.margin_high - margin.margin_low))
    if isinstance(margin, CombinedMargin):
        if margin.m1 == 1:
            return arcface(cosine, torch.full_like(cosine, margin.m2)) - margin.m3
        return falling_cosine(margin.m1 * angle(cosine) + margin.m2) - margin.m3
    if isinstance(margin, AdaFace):
        length = norm.detach().clamp(1e-3, 100)
        q = (margin.h * (length - state["mean"]) / (state["std"] + 1e-3)).clamp(-1, 1)
        turned = (angle(cosine) - margin.margin * q).clamp(0, math.pi)
        return torch.cos(turned) - (margin.margin + margin.margin * q)
    if isinstance(margin, SphereFace | SphereFaceNormFea | LSoftmax):
        annealed = margin.lambda_first / (1 + margin.lambda_falls * step)
        weight = max(margin.lambda_least, annealed)
        psi = falling_cosine(margin.margin * angle(cosine))
        return weight / (1 + weight) * cosine + psi / (1 + weight)
    raise NotImplementedError(type(margin).__name__)


def negative_function(
    margin: Margin, cosines: Tensor, target_cosine: Tensor, state: dict[str, float]
) -> Tensor:
    """What stands at the other classes' places for cos θ_j; target_cosine broadcasts against cosines."""
    changed = cosines
    if isinstance(margin, CurricularFace):
        border = torch.cos(angle(target_cosine.detach()) + margin.margin)
        changed = torch.where(cosines > border, cosines * (state["t"] + cosines), cosines)
    filter_above = getattr(margin, "filter_above", None)
    if filter_above is not None:
        changed = torch.where(cosines > filter_above, 0.0, changed)
    return changed


def angle(cosine: Tensor) -> Tensor:
    """θ, with no slope where its own is infinite: within 1e-12 of cos θ = ±1."""
    inside = cosine.clamp(-1 + 1e-12, 1 - 1e-12)
    beyond = torch.arccos(cosine.detach().clamp(-1, 1))
    return torch.where(inside == cosine, torch.arccos(inside), beyond)


def arcface(cosine: Tensor, margin: Tensor) -> Tensor:
    """cos(θ + m) where cos θ > cos(π − m), else cos θ − m sin m, never above where the other has ended."""
    return torch.where(
        cosine > torch.cos(math.pi - margin),
        torch.cos(angle(cosine) + margin),
        cosine - torch.maximum(margin * torch.sin(margin), 1 - torch.cos(margin)),
    )


def falling_cosine(angles: Tensor) -> Tensor:
    """(−1)^k cos φ − 2k, k = floor(φ/π)."""
    k = torch.floor(angles.detach() / math.pi)
    sign = torch.where(k % 2 == 0, 1.0, -1.0)
    return sign * torch.cos(angles) - 2 * k


def magface_g(margin: MagFace, norms: Tensor) -> Tensor:
    """g(a) = 1/a + a/u², a being kept between the two norms and u the larger of them."""
    a = norms.clamp(margin.norm_low, margin.norm_high)
    return 1 / a + a / margin.norm_high**2
