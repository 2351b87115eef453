"""What of a run survives its process, apart from tensors: `state.json` of a checkpoint."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

FORMAT = 1


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

    def differences(self, now: ModelDescription) -> str:
        """What is different now, in words; empty if nothing is."""
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
            if before[key] != after[key] and not _is_harmless(key, before[key], after[key])
        )


@dataclass(frozen=True)
class FileEntry:
    """A file of a checkpoint: its length and the CRC-32 of its bytes."""

    bytes: int
    crc32: int


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

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> SavedState:
        """Read the file's text. Raises ValueError if it is not what `to_json` writes."""
        try:
            value: dict[str, Any] = json.loads(text)
            if value.pop("format") != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            model = dict(value.pop("model"))
            model["image_size"] = tuple(model["image_size"])
            files = {name: FileEntry(**entry) for name, entry in value.pop("files").items()}
            return cls(model=ModelDescription(**model), files=files, **value)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it lacks or has too much: {error}") from None


def _is_harmless(key: str, before: object, after: object) -> bool:
    """Sets of a size that was not told; auxiliary losses of which none has tensors of its own."""
    if key == "num_images":
        return None in (before, after)
    return key == "auxiliary" and "center" not in (before, after)


def _words(value: object) -> str:
    return "×".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
