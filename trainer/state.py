"""What of a run survives its process, apart from tensors: `state.json` of a checkpoint."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from data_pipeline.files.typed_json import parse, typed
from data_pipeline.sets.fingerprint import Fingerprint

FORMAT = 1


class OtherFormat(ValueError):
    """A state of a version whose checkpoints this one does not know; nothing is damaged."""


@dataclass(frozen=True)
class ModelDescription:
    """What tensors a run has; a checkpoint of another description cannot be gone on from."""

    backbone: str
    embedding_dim: int
    image_size: tuple[int, int]
    num_classes: int
    loss: str
    seed: int
    sub_centers: int = 1
    head_optimizer: str = "sgd"
    auxiliary: str = "none"
    num_images: int | None = None
    """Of the training set: the position counts them. None in checkpoints that did not say."""
    order: str = "random"
    """In which the position counts."""

    def __post_init__(self) -> None:
        for name in ("embedding_dim", "num_classes", "sub_centers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is 1 or more, got {getattr(self, name)}")
        if min(self.image_size) < 1:
            raise ValueError(f"image_size is 1 or more, got {_words(self.image_size)}")

    def differences(self, now: ModelDescription, *, other_data: bool = False) -> str:
        """What is different now, in words; empty if nothing is. other_data: the set may have another size."""
        names = {
            "backbone": "model.backbone",
            "embedding_dim": "model.embedding-dim",
            "image_size": "image size",
            "num_classes": "number of identities",
            "num_images": "number of images",
            "order": "data.order",
            "loss": "head.loss",
            "sub_centers": "head.sub-centers",
            "head_optimizer": "head.optimizer",
            "auxiliary": "auxiliary.loss",
            "seed": "training.seed",
        }
        before, after = asdict(self), asdict(now)
        return ", ".join(
            f"{name} is {_words(before[key])} there and {_words(after[key])} here"
            for key, name in names.items()
            if before[key] != after[key]
            and not _is_harmless(key, before[key], after[key])
            and not (other_data and key == "num_images")
        )


@dataclass(frozen=True)
class FileEntry:
    """A file of a checkpoint: its length and the CRC-32 of its bytes."""

    bytes: int
    crc32: int

    def __post_init__(self) -> None:
        if self.bytes < 0:
            raise ValueError(f"bytes are 0 or more, got {self.bytes}")


@dataclass(frozen=True)
class LearningRate:
    """Where the schedule was: the last step's rate, and the next one's as it would have been.

    total_steps: that the schedule was computed for.
    """

    last: float
    next: float
    total_steps: int


@dataclass(frozen=True)
class SavedState:
    """`state.json`: where the run was, of what model, and which files belong to it.

    step: steps done. position: images of the endless global order that these steps took, all ranks together;
    it alone says which image comes next, for any number of ranks.
    """

    step: int
    position: int
    world_size: int
    model: ModelDescription
    margin_state: dict[str, float] = field(default_factory=dict)
    """What the loss remembers of the batches so far (AdaFace, CurricularFace)."""
    versions: dict[str, str] = field(default_factory=dict)
    files: dict[str, FileEntry] = field(default_factory=dict)
    data: Fingerprint | None = None
    """Of the training set; None in checkpoints that did not say."""
    rate: LearningRate | None = None
    """None in checkpoints that did not say, and before the first step."""

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n"

    def __post_init__(self) -> None:
        if self.step < 0 or self.position < 0:
            raise ValueError(f"step and position are 0 or more, got {self.step} and {self.position}")
        if self.world_size < 1:
            raise ValueError(f"world_size is 1 or more, got {self.world_size}")
        for name in self.files:
            if not name or name.startswith(".") or set("/\\\0") & set(name):
                raise ValueError(f"files: {name!r} is no file's name")

    @classmethod
    def from_json(cls, text: str) -> SavedState:
        """Read the file's text. Raises ValueError if it is not what `to_json` writes, OtherFormat where a
        version of another format wrote it.
        """
        value = parse(text)
        if not isinstance(value, dict) or "format" not in value:
            raise ValueError("it states no format")
        stated = value.pop("format")
        if stated != FORMAT:
            raise OtherFormat(f"its format is {stated!r}, this version reads {FORMAT}")
        return typed(value, cls)


def _is_harmless(key: str, before: object, after: object) -> bool:
    """Sets of a size that was not told; auxiliary losses of which none has tensors of its own."""
    if key == "num_images":
        return None in (before, after)
    return key == "auxiliary" and "center" not in (before, after)


def _words(value: object) -> str:
    return "×".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
