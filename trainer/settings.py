"""The whole run as one typed tree: `--section.key` on the command line, `[section]` in TOML.

Ranges are checked here, once; what depends on files or on the number of ranks is checked in `check.py`.
The optimiser's settings stand in `schedule.py`, the auxiliary loss's in `losses/settings.py`, the
augmentation's in `data_pipeline.augment.settings`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from data_pipeline.augment.settings import Augmentation
from trainer.backbones import BACKBONES
from trainer.command_line import nearest_name
from trainer.deadlines import DeadlinesConfig
from trainer.losses.settings import AuxiliaryConfig
from trainer.schedule import OptimConfig


@dataclass(frozen=True)
class DataConfig:
    """What is trained on, and how it is read."""

    train: tuple[Path, ...]
    """Record folder (train.rec, train.idx, property), folder of images (a sub-folder an identity), or
    rendered:IDENTITIESxVIEWS; of several, the identities of each come after those before it."""
    batch_size: int = 128
    """Images of a step, per rank."""
    min_images: int = 0
    """Identities with fewer images are left out, the others numbered anew."""
    follow_links: bool = False
    """Count files in a folder of images that are links to files outside it."""
    order: Literal["random", "blocks", "identities"] = "random"
    """random: every image once an epoch, over the whole set; blocks: the same within windows of blocks of
    neighbouring images, for slow disks; identities: some images each of some identities, for the auxiliary
    losses, every identity once an epoch."""
    block: int = 1024
    """Images of a block, for the order of blocks."""
    window: int = 64
    """Blocks of a window, for the order of blocks: window times block images are read by turns."""
    images_per_identity: int = 4
    """Images of each identity in a batch, for the order of identities."""
    last_batch: Literal["across", "drop", "pad", "short"] = "across"
    """What becomes of an epoch's last images when they are fewer than a step takes. across: the step runs on
    into the next epoch; drop: they are left out; pad: filled up with images that do not count; short: a
    smaller batch."""
    decoder: Literal["auto", "dali", "opencv"] = "auto"
    """auto: DALI where it is installed, else OpenCV, which is slower and for the CPU alone."""
    max_damaged: float = 1e-4
    """Part of the images that may be damaged, one at least unless it is 0; from 1 on, their number. The run
    puts others in their places; above it it stops."""
    image_size: tuple[int, int] | None = None
    """Height and width of the images as the network sees them; as stored when not given."""
    threads: int | None = None
    """Threads that decode images, per rank; its share of the processor's cores when not given."""
    preset: Literal["none", "flip", "light", "adaface"] = "flip"
    """A set of augmentations by its name (docs/choose-the-data.md), where --data.augment says nothing."""
    augment: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        least = {"batch_size": 1, "min_images": 0, "block": 1, "window": 1, "images_per_identity": 1}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ValueError(f"{name} must be {smallest} or more, got {getattr(self, name)}")
        if not self.train:
            raise ValueError("train must name a set")
        if self.order == "identities" and self.batch_size % self.images_per_identity:
            raise ValueError(
                f"batch_size must be a multiple of images_per_identity, {self.images_per_identity}, for the "
                f"order of identities, got {self.batch_size}"
            )
        if not (0 <= self.max_damaged < 1 or (self.max_damaged < 2**63 and self.max_damaged % 1 == 0)):
            raise ValueError(
                "max_damaged must be a part of the images (0 or more, below 1) or their number (a whole "
                f"one), got {self.max_damaged:g}"
            )
        if self.preset != "flip" and self.augment != Augmentation():
            raise ValueError("preset must be left alone where augment's own settings are given")
        if self.image_size is not None and min(self.image_size) < 16:
            raise ValueError(
                f"image_size must be at least 16 16, got {self.image_size[0]} {self.image_size[1]}"
            )
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be 1 or more, got {self.threads}")

    @property
    def order_in_words(self) -> str:
        """The order with all that its positions depend on."""
        match self.order:
            case "blocks":
                return f"blocks ({self.window} of {self.block})"
            case "identities":
                return f"identities ({self.images_per_identity} images each)"
            case "random":
                return "random"


@dataclass(frozen=True)
class ModelConfig:
    """The network that turns an image into an embedding."""

    backbone: str = "iresnet18"
    """iresnet18, 34, 50, 100; for small sets and processors iresnet10-half and iresnet14-half; sphereface4,
    10, 20, 36, 64, the papers' CNNs, which have no batch norm and start harder."""
    embedding_dim: int = 512
    """Numbers in an embedding."""

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            nearest = nearest_name(self.backbone, list(BACKBONES))
            hint = f"nearest: {nearest}" if nearest else ", ".join(BACKBONES)
            raise ValueError(f"backbone must be one that is known, got {self.backbone!r}; {hint}")
        if self.embedding_dim < 1:
            raise ValueError(f"embedding_dim must be 1 or more, got {self.embedding_dim}")


@dataclass(frozen=True)
class HeadConfig:
    """The classifier over all identities, its class centres split between the ranks."""

    loss: Literal[
        "cosface",
        "arcface",
        "combinedmargin",
        "curricularface",
        "adaface",
        "magface",
        "elasticface",
        "sphereface",
        "spherefacenormfea",
        "lsoftmax",
        "normalizedsoftmax",
        "softmax",
        "none",
    ] = "cosface"
    """The loss, by the name of its class in partial_fc; `cosface losses` lists their formulas and options.
    none: no class centres, the auxiliary loss alone."""
    margin: float | None = None
    """m, in the loss's own unit; by default the loss's own (cosface 0.35, arcface 0.5). Some have none, or
    several by other names (combinedmargin m1, m2, m3): there it is refused."""
    scale: float | None = None
    """s, by which cosines are multiplied, 64 by default; softmax, lsoftmax and sphereface have none and
    refuse it."""
    options: tuple[str, ...] = ()
    """The loss's further options as NAME=VALUE, m1=1 m2=0.3 m3=0.2 for combinedmargin; `cosface losses NAME`
    lists them with ranges and defaults."""
    sample_rate: float = 1.0
    """Part of the classes that a step computes with (Partial FC); the batch's own are always among them."""
    full_steps: int = 0
    """The run's last so many steps compute with all classes, whatever the sample rate."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Of the class centres: as the backbone's, or AdamW with the same weight decay."""
    lr_factor: float = 1.0
    """Their learning rate is the run's times this: AdamW wants about 0.01 where SGD has 1."""
    sub_centers: int = 1
    """Centres a class, of which the nearest to an image counts; for the losses on normalised cosines."""
    filter_above: float | None = None
    """Other classes with a larger cosine are taken for wrong labels and left alone; for the same losses."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the products with the centres are made in; centres, norms and sums are float32 either way."""
    momentum_precision: Literal["float32", "bfloat16"] = "float32"
    """What the centres' momentum is kept in: bfloat16 takes half of its memory."""
    wire_precision: Literal["float32", "bfloat16"] = "float32"
    """What embeddings and their gradients travel between ranks as."""
    workspace_mib: float = 512.0
    """MiB of a step beyond centres and momentum, per rank; exponentials that do not fit are made twice."""

    def __post_init__(self) -> None:
        if self.margin is not None and not 0 <= self.margin < math.inf:
            raise ValueError(f"margin must be at least 0, got {self.margin:g}")
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be above 0, got {self.scale:g}")
        if not 0 < self.sample_rate <= 1:
            raise ValueError(f"sample_rate must be above 0 and at most 1, got {self.sample_rate:g}")
        if self.full_steps < 0:
            raise ValueError(f"full_steps must be 0 or more, got {self.full_steps}")
        if not 0 < self.lr_factor < math.inf:
            raise ValueError(f"lr_factor must be above 0, got {self.lr_factor:g}")
        if self.sub_centers < 1:
            raise ValueError(f"sub_centers must be 1 or more, got {self.sub_centers}")
        if self.filter_above is not None and not 0 < self.filter_above <= 1:
            raise ValueError(f"filter_above must be above 0 and at most 1, got {self.filter_above:g}")
        if not 0 <= self.workspace_mib < math.inf:
            raise ValueError(f"workspace_mib must be at least 0, got {self.workspace_mib:g}")
        if self.loss == "none":
            self._refuse_what_needs_centres()

    def _refuse_what_needs_centres(self) -> None:
        for one in fields(self):
            if one.name != "loss" and getattr(self, one.name) != one.default:
                left_out = "left out" if one.default == () else f"left at {one.default}"
                raise ValueError(f"{one.name} must be {left_out}: --head.loss none has no class centres")


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how."""

    steps: int | None = None
    """Length of the run in steps; give this or epochs."""
    epochs: float | None = None
    """Length of the run in passes over the set; give this or steps."""
    seed: int = 0
    """First weights, order of the images and their augmentation are functions of it."""
    clip_norm: float = 5.0
    """Largest norm of the backbone's gradient, longer ones are shortened; 0 is off."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the backbone computes in; weights, optimiser and head stay float32."""
    average: float = 0.0
    """Decay of a running average of the backbone's weights, which is then what is evaluated; 0 is off."""
    deadline: float | None = None
    """Seconds to wait for another rank before the run fails: one number for every kind of wait, in place of
    those of [deadlines]."""

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be 1 or more, got {self.steps}")
        if self.epochs is not None and not 0 < self.epochs < math.inf:
            raise ValueError(f"epochs must be above 0, got {self.epochs:g}")
        if not 0 <= self.seed < 1 << 63:
            raise ValueError(f"seed must be between 0 and 2^63 - 1, got {self.seed}")
        if not 0 <= self.clip_norm < math.inf:
            raise ValueError(f"clip_norm must be 0 or more, got {self.clip_norm:g}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average must be at least 0 and below 1, got {self.average:g}")
        if self.deadline is not None and not 0 < self.deadline < 1e6:
            raise ValueError(f"deadline must be above 0 seconds, got {self.deadline:g}")


@dataclass(frozen=True)
class CheckpointConfig:
    """When the run is written down; the last step always is."""

    every: int = 1000
    """Steps between two checkpoints; 0 writes the last step's alone."""
    keep: int = 2
    """How many of the newest checkpoints stay."""

    def __post_init__(self) -> None:
        if self.every < 0:
            raise ValueError(f"every must be 0 or more, got {self.every}")
        if self.keep < 1:
            raise ValueError(f"keep must be 1 or more, got {self.keep}")


@dataclass(frozen=True)
class EvaluationConfig:
    """Verification while training."""

    verification: tuple[Path, ...] = ()
    """Pair sets (.bin files) on which the backbone is evaluated."""
    every: int = 0
    """Steps between two evaluations, each after a checkpoint; 0 evaluates after the last step alone."""

    def __post_init__(self) -> None:
        if self.every < 0:
            raise ValueError(f"every must be 0 or more, got {self.every}")


@dataclass(frozen=True)
class LogConfig:
    """What is written while training."""

    every: int = 1
    """Steps between two lines of events.jsonl."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every must be 1 or more, got {self.every}")


@dataclass(frozen=True)
class Config:
    """A training run."""

    run: Path
    """The run's folder: settings, events, checkpoints and evaluations; made if it is not there."""
    data: DataConfig
    resume: Literal["auto", "never"] = "auto"
    """auto: go on from the run's last checkpoint if it has one; never: refuse a folder that was used."""
    resume_with_other_data: bool = False
    """Go on although the checkpoint's set was another one, such as a repacked one: centres and position are
    taken as they are, for as many identities."""
    engine: Literal["ddp"] = "ddp"
    """How the backbone is trained on many ranks: torch's DistributedDataParallel."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where torch sees a device, else the CPU. With CUDA each rank needs a device of its own: all
    of the machine visible, or each its own alone, as srun --gpus-per-task=1 shows them."""
    model: ModelConfig = field(default_factory=ModelConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    auxiliary: AuxiliaryConfig = field(default_factory=AuxiliaryConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    log: LogConfig = field(default_factory=LogConfig)
    deadlines: DeadlinesConfig = field(default_factory=DeadlinesConfig)

    @property
    def waits(self) -> DeadlinesConfig:
        """The deadlines that hold."""
        one = self.training.deadline
        return self.deadlines if one is None else DeadlinesConfig(one, one, one, one)

    def __post_init__(self) -> None:
        given = (self.training.steps is not None) + (self.training.epochs is not None)
        if given != 1:
            raise ValueError(
                "one of --training.steps and --training.epochs must be given"
                + (", not both (the other one: None)" if given else "")
            )
        if self.head.loss == self.auxiliary.loss == "none":
            raise ValueError("one of --head.loss and --auxiliary.loss must be other than none")
