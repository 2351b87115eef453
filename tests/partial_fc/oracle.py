"""The definition: dense float64 margin softmax on one device, differentiated by autograd."""

from __future__ import annotations

import numpy as np
import torch

from partial_fc import CosFace, Margin


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
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray | None]:
    """Loss and embedding gradient of the first step, weight and bias after `steps` steps of torch's SGD."""
    x = torch.tensor(embeddings, dtype=torch.float64, requires_grad=True)
    w = torch.tensor(weight, dtype=torch.float64, requires_grad=True)
    parameters = [w]
    if bias is not None:
        b = torch.tensor(bias, dtype=torch.float64, requires_grad=True)
        parameters.append(b)
    optimiser = torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)
    y = torch.tensor(labels)
    labelled = y >= 0
    for step in range(steps):
        optimiser.zero_grad()
        dot = x @ w.T
        if margin.normalised:
            dot = dot / x.norm(dim=1)[:, None] / w.norm(dim=1)[None, :]
        logits = margin.scale * dot
        if isinstance(margin, CosFace):
            one_hot = torch.zeros_like(logits)
            one_hot[labelled, y[labelled]] = 1
            logits = margin.scale * (dot - margin.margin * one_hot)
        if bias is not None:
            logits = logits + b
        loss = torch.nn.functional.cross_entropy(logits[labelled], y[labelled])
        x.grad = None
        loss.backward()
        if step == 0:
            first = float(loss.detach()), x.grad.numpy().copy()
        optimiser.step()
    return (*first, w.detach().numpy(), b.detach().numpy() if bias is not None else None)
