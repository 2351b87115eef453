"""A run put together: data, engine, losses and counters, and what can be done with them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from data_pipeline.files.typed_json import typed
from data_pipeline.loader.loader import Batch, TrainLoader
from data_pipeline.order.batching import Batching
from data_pipeline.order.whole_set import Order
from data_pipeline.sets.fingerprint import Fingerprint, fingerprint
from data_pipeline.sets.source import ImageSource
from trainer.agreement import versions
from trainer.backbones import make_backbone
from trainer.check import check_same_model, check_same_set, describe_model
from trainer.checkpoint import (
    BACKBONE,
    OPTIMIZER,
    Tensors,
    checkpoint_steps,
    load_head,
    load_tensors,
    save_checkpoint,
)
from trainer.data import make_batching, make_loader, make_order, open_set
from trainer.device import own_share_of_cores
from trainer.engines import Engine, make_engine
from trainer.errors import TrainingFailed
from trainer.evaluation.embed import Embed
from trainer.failed_alone import failing_alone
from trainer.metrics import Stopwatch
from trainer.objective import Objective, make_objective
from trainer.ranks import Ranks
from trainer.recipe import settled
from trainer.resumed import notes_on
from trainer.schedule import OptimConfig, learning_rate
from trainer.settings import Config
from trainer.sound import newest_sound
from trainer.state import LearningRate, ModelDescription, SavedState
from trainer.stop import EvaluationStopped, StopRequest


@dataclass(frozen=True)
class StepResult:
    """What a step came to: `auxiliary_loss` where the loss has one, `gradient_norm` where it is clipped.

    images: that it took on all ranks together; those that fill up a padded batch are none.
    """

    loss: float
    lr: float
    images: int
    auxiliary_loss: float | None
    gradient_norm: float | None


@dataclass
class Job:
    """A run's moving parts on this rank. step: steps done; position: images that all ranks took for them."""

    config: Config
    ranks: Ranks
    device: torch.device
    dataset: ImageSource
    order: Order
    model: ModelDescription
    data: Fingerprint
    engine: Engine
    objective: Objective
    watch: Stopwatch
    stop: StopRequest
    step: int = 0
    position: int = 0
    total_steps: int = 0
    saved_step: int = -1
    unsound: set[int] = field(default_factory=set)
    """Steps whose checkpoints are damaged and were passed over."""
    notes: list[str] = field(default_factory=list)
    """What is to be told about going on."""
    _last_lr: float | None = None

    @cached_property
    def batching(self) -> Batching:
        """What each step takes of the order."""
        return make_batching(self.config, self.order, self.ranks)

    @property
    def is_done(self) -> bool:
        """Whether no step is left."""
        return self.step >= self.total_steps

    @property
    def images_a_step(self) -> int:
        """Images of a full step on all ranks together."""
        return self.config.data.batch_size * self.ranks.world_size

    @property
    def optim(self) -> OptimConfig:
        """The optimiser's settings, with the defaults that depend on the run; of use once it is restored."""
        return settled(self.config.optim, self.images_a_step, self.total_steps)

    def restore(self) -> None:
        """Go on from the run's newest sound checkpoint, if it has one, and say how many steps there are."""
        found = newest_sound(self.config.run, self.ranks)
        if found:
            state, folder = found.state, found.folder
            with self.ranks.agreed():
                check_same_model(self.config, folder, state, self.model, self.data)
            with self.ranks.agreed():
                self.engine.load(load_tensors(folder / BACKBONE), load_tensors(folder / OPTIMIZER))
                load_head(folder, state, self.objective.class_range, self.objective.sharded_state())
            self.objective.go_on_from(state.step, state.margin_state)
            self.step, self.position, self.saved_step = state.step, state.position, state.step
            self.unsound = set(found.damaged)
        self.total_steps = self._count_steps()
        self.objective.run_until(self.total_steps)
        if found:
            self.notes = notes_on(found, self.data, self.config.optim, self.images_a_step, self.total_steps)

    def batches(self) -> TrainLoader:
        """This rank's batches from the position on, endless; a context manager."""
        threads = own_share_of_cores(self.ranks)
        with self.ranks.agreed():
            return make_loader(
                self.config, self.dataset, self.order, self.ranks, self.position, self.device, threads
            )

    def train_step(self, batch: Batch) -> StepResult:
        """One step of training; nothing is updated if the loss is not a finite number.

        Raises StepFailed for whatever this rank meets alone, such as no memory left.
        """
        with failing_alone(self.step + 1, self.ranks):
            return self._train_step(batch)

    def _train_step(self, batch: Batch) -> StepResult:
        lr = learning_rate(self.optim, self.step, self.total_steps)
        with self.watch.phase("forward"):
            embeddings = self.engine.forward(batch.images)
        with self.watch.phase("head"):
            loss = self.objective(embeddings, batch.labels)
            value = float(loss.total.detach())
        if not math.isfinite(value):
            self._fail(value, batch.images, embeddings.detach())
        with self.watch.phase("backward"):
            self.engine.backward(loss.total)
        with self.watch.phase("step"):
            try:
                norm = self.engine.step(lr)
            except TrainingFailed as error:
                # The averaged gradient is the same on all ranks, so all are here, and one speaks.
                with self.ranks.agreed():
                    raise TrainingFailed(f"step {self.step + 1}: {error}; {self._what_is_good()}") from None
            self.objective.step(lr)
        images = self.batching.images(self.position)
        self.step += 1
        self.position, self._last_lr = batch.position, lr
        auxiliary = None if loss.auxiliary is None else float(loss.auxiliary.detach())
        return StepResult(value, lr, images, auxiliary, norm)

    @contextmanager
    def evaluating(self) -> Iterator[Embed]:
        """The backbone as it is evaluated; it raises EvaluationStopped when this rank is asked to stop."""
        with self.engine.evaluating() as backbone:

            def embed(images: Tensor) -> Tensor:
                if self.stop.requested:
                    raise EvaluationStopped("asked to stop in an evaluation")
                embeddings: Tensor = backbone(images)
                return embeddings

            yield embed

    def save(self) -> None:
        """Write a checkpoint of this step, unless there is one.

        Raises NotWritten, on every rank, if the disk does not take it, and TrainingFailed on one rank, with
        FailedElsewhere on the others, for numbers that are not finite.
        """
        if self.saved_step == self.step:
            return
        state = SavedState(
            self.step,
            self.position,
            self.ranks.world_size,
            self.model,
            margin_state=self.objective.margin_state,
            versions=versions(),
            data=self.data,
            rate=self._rate(),
        )
        tensors = Tensors(
            self.engine.backbone_tensors(),
            self.engine.optimizer_tensors(),
            self.objective.sharded_state(),
            self.objective.class_range,
        )
        with self.ranks.agreed():
            for part in (tensors.backbone, tensors.optimizer, tensors.head):
                for name, tensor in part.items():
                    if not _all_finite(tensor):
                        raise TrainingFailed(
                            f"step {self.step}, rank {self.ranks.rank}: {name} is no longer finite and "
                            f"was not saved; {self._what_is_good()}"
                        )
        keep = self.config.checkpoint.keep
        with self.ranks.waiting(self.config.waits.save):
            save_checkpoint(self.config.run, state, tensors, self.ranks, keep, self.unsound)
        self.saved_step = self.step
        self.unsound.discard(self.step)

    def _rate(self) -> LearningRate | None:
        if self._last_lr is None:
            return None
        following = learning_rate(self.optim, self.step, self.total_steps)
        return LearningRate(self._last_lr, following, self.total_steps)

    def _count_steps(self) -> int:
        training = self.config.training
        if training.steps is not None:
            return training.steps
        end = round((training.epochs or 0) * self.order.epoch_length)
        return self.step + self.batching.steps_until(self.position, end)

    def _fail(self, loss: float, images: Tensor, embeddings: Tensor) -> None:
        """Find the rank and the place where the numbers went wrong, and raise on all ranks."""
        own = [
            _all_finite(images),
            _all_finite(embeddings),
            all(map(_all_finite, self.objective.sharded_state().values())),
        ]
        everybody = self.ranks.gather(own)
        places = ("images", "embeddings", "class centres")
        causes = [
            f"the {place} of rank {rank}"
            for place, column in zip(places, zip(*everybody, strict=True), strict=True)
            for rank, finite in enumerate(column)
            if not finite
        ]
        cause = f"{causes[0]} are not finite" if causes else "images, embeddings and class centres are finite"
        with self.ranks.agreed():
            raise TrainingFailed(f"step {self.step + 1}: the loss is {loss}: {cause}; {self._what_is_good()}")

    def _what_is_good(self) -> str:
        advice = "a lower --optim.lr, --optim.warmup-steps or --training.clip-norm may help"
        good = [at for step, at in checkpoint_steps(self.config.run).items() if step not in self.unsound]
        said = f"the last good checkpoint is {good[-1]}" if good else "no checkpoint had been written"
        return f"{said}; {advice}"


@contextmanager
def assembled(
    config: Config, ranks: Ranks, device: torch.device, stop: StopRequest | None = None
) -> Iterator[Job]:
    """A job at step 0; the same on every rank but for its classes. Raises what its parts raise."""
    stop = stop or StopRequest()
    with ranks.agreed():
        dataset = open_set(config)
    with closing(dataset):
        model = describe_model(config, dataset)
        with ranks.agreed():
            data = fingerprint(dataset)
        first = typed(ranks.gather(asdict(data))[0], Fingerprint)
        with ranks.agreed():
            check_same_set(config, data, first)
            order = make_order(config, dataset)
        backbone = make_backbone(model.backbone, model.embedding_dim, model.image_size, config.training.seed)
        settings = config.engine, backbone, config.optim, config.training
        engine = make_engine(*settings, model.image_size, device, ranks)
        objective = make_objective(config, model.num_classes, device)
        yield Job(config, ranks, device, dataset, order, model, data, engine, objective, Stopwatch(), stop)


def _all_finite(tensor: Tensor) -> bool:
    """Without a second tensor of that size: the extremes are NaN or infinite if any number is."""
    if not tensor.numel() or not tensor.is_floating_point():
        return True
    low, high = tensor.aminmax()
    return bool(torch.isfinite(low) & torch.isfinite(high))
