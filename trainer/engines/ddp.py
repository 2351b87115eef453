"""torch's DistributedDataParallel, or the plain backbone where there is one rank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainer.errors import TrainerInputError, TrainingFailed
from trainer.ranks import Ranks
from trainer.schedule import OptimConfig
from trainer.settings import TrainingConfig


class DdpEngine:
    """See `Engine`. Gradients are averaged by gloo on CPUs and by nccl on GPUs, while backward goes on.

    Batch norm sees each rank's own images; rank 0's running statistics are those that count.
    """

    def __init__(
        self,
        backbone: nn.Module,
        optim: OptimConfig,
        training: TrainingConfig,
        image_size: tuple[int, int],
        device: torch.device,
        ranks: Ranks,
    ) -> None:
        self._ranks = ranks
        self._device = device
        self._clip_norm = training.clip_norm
        self._autocast = training.precision == "bfloat16"
        self._decay = training.average
        self._backbone = backbone.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self._module: nn.Module = self._backbone
        if ranks.world_size > 1:
            self._module = DistributedDataParallel(
                self._backbone,
                device_ids=[device.index] if device.type == "cuda" else None,
                gradient_as_bucket_view=True,
            )
            self._settle_buckets(image_size)
        self._average = {}
        if self._decay:
            self._average = {name: value.clone() for name, value in self._averaged().items()}
        weights = [weight for weight in self._backbone.parameters() if weight.requires_grad]
        self._optimizer = torch.optim.SGD(
            [
                {"params": [w for w in weights if w.ndim > 1], "weight_decay": optim.weight_decay},
                {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=0.0,  # each step brings its own
            momentum=optim.momentum,
        )

    def forward(self, images: Tensor) -> Tensor:
        """See Engine."""
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            embeddings: Tensor = self._module(images)
        return embeddings.float()

    def backward(self, loss: Tensor) -> None:
        """See Engine."""
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self, lr: float) -> float | None:
        """See Engine. Raises TrainingFailed if the gradient that is to be clipped is not finite."""
        norm = None
        if self._clip_norm:
            norm = float(nn.utils.clip_grad_norm_(self._backbone.parameters(), self._clip_norm))
            if norm != norm or norm == float("inf"):
                raise TrainingFailed(f"the norm of the backbone's gradient is {norm}")
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._decay:
            with torch.no_grad():
                for name, value in self._averaged().items():
                    self._average[name].lerp_(value, 1 - self._decay)
        return norm

    @contextmanager
    def evaluating(self) -> Iterator[nn.Module]:
        """See Engine."""
        current = {name: value.clone() for name, value in self._backbone.state_dict().items()}
        with torch.no_grad():
            for name, value in self._average.items():
                self._backbone.state_dict()[name].copy_(value)
            if self._ranks.world_size > 1:
                # Every rank has statistics of its own: all evaluate with rank 0's.
                for buffer in self._backbone.buffers():
                    dist.broadcast(buffer, src=0)
        self._backbone.eval()
        try:
            yield self._backbone
        finally:
            self._backbone.train()
            self._backbone.load_state_dict(current)

    def backbone_tensors(self) -> dict[str, Tensor]:
        """See Engine."""
        model = {f"model.{name}": value for name, value in self._backbone.state_dict().items()}
        return model | {f"average.{name}": value for name, value in self._average.items()}

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """See Engine: `momentum.…`, nothing before the first step."""
        states = self._optimizer.state
        return {
            f"momentum.{name}": states[weight]["momentum_buffer"]
            for name, weight in self._backbone.named_parameters()
            if states.get(weight, {}).get("momentum_buffer") is not None
        }

    def load(self, backbone: Mapping[str, Tensor], optimizer: Mapping[str, Tensor]) -> None:
        """See Engine. A run that had no running average starts it at its weights."""
        model = _under("model.", backbone)
        try:
            self._backbone.load_state_dict(model)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise TrainerInputError(f"the checkpoint's backbone does not fit: {reason}") from None
        saved = _under("average.", backbone) or model
        with torch.no_grad():
            for name, average in self._average.items():
                average.copy_(saved[name])
        momentum = _under("momentum.", optimizer)
        for name, weight in self._backbone.named_parameters():
            if name in momentum:
                buffer = torch.empty_like(weight).copy_(momentum[name])
                self._optimizer.state[weight]["momentum_buffer"] = buffer.detach()

    def _averaged(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self._backbone.state_dict()
        return {name: value for name, value in state.items() if value.is_floating_point()}

    def _settle_buckets(self, image_size: tuple[int, int]) -> None:
        """Pass nothing through once, after which DDP packs gradients in the order in which they come.

        It would do so after the first step, of a resumed run too; with more than two ranks another packing
        adds in another order, and the resumed run's losses would differ in the last bit.
        """
        buffers = [buffer.clone() for buffer in self._backbone.buffers()]
        images = torch.zeros(2, 3, *image_size, device=self._device)
        self.backward(self.forward(images).sum() * 0.0)
        self._backbone.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, before in zip(self._backbone.buffers(), buffers, strict=True):
                buffer.copy_(before)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
