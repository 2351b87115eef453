"""Whether the class centres of a set fit into this machine: asked before any rank is started."""

from __future__ import annotations

import torch

from data_pipeline.sets.notes import is_sparse, largest_label, parts_of, rounding
from data_pipeline.sets.source import ImageSource
from partial_fc.memory import bytes_per_number, in_words, memory_of
from trainer.classifier import head_optimiser
from trainer.errors import TrainerInputError
from trainer.settings import Config

# Centres of nobody that take less than this do not hurt.
_HARMLESS = 1 << 30


def check_room(config: Config, dataset: ImageSource, world_size: int, local_ranks: int) -> None:
    """Raise TrainerInputError if the centres and their moments are more than this machine can hold.

    And if labels are people's numbers rather than classes, so that nearly all centres would be nobody's.
    world_size: ranks of all machines, which hold about the same each; local_ranks: those of this one.
    """
    device = torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")
    memory = memory_of(device)
    total = memory.total * (local_ranks if device.type == "cuda" else 1) if memory else None
    there = f"this machine's {in_words(total)}" if total is not None else "the memory"
    for part in parts_of(dataset):
        needed = bytes_of_centres(config, part.num_classes)
        if is_sparse(part) and needed > _HARMLESS:
            raise TrainerInputError(
                f"--data.train {part.name}: its labels go up to {largest_label(part)} for "
                f"{part.num_images} images, they are people's numbers and no classes: the centres and their "
                f"moments would take {in_words(needed)} of {there}; --data.min-images 1 numbers those who "
                f"have images anew{rounding(part)}"
            )
    needed = bytes_of_centres(config, dataset.num_classes) * local_ranks // world_size
    if total is not None and needed > total:
        share = "" if local_ranks == world_size else f", this machine's share for {local_ranks} ranks,"
        raise TrainerInputError(
            f"--data.train {dataset.name}: the centres of {dataset.num_classes} identities and their moments"
            f"{share} take {in_words(needed)}, more than {there}; more machines, a higher --data.min-images, "
            "--head.momentum-precision bfloat16 or a smaller --model.embedding-dim take less of each"
        )


def bytes_of_centres(config: Config, num_classes: int) -> int:
    """What the centres of all ranks take, with what the optimiser remembers of them."""
    numbers = num_classes * config.model.embedding_dim
    needed = 4 * numbers if config.auxiliary.loss == "center" else 0
    if config.head.loss == "none":
        return needed
    each = bytes_per_number(head_optimiser(config), getattr(torch, config.head.momentum_precision))
    return needed + numbers * config.head.sub_centers * each
