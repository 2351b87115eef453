"""What a run's data settings stand for: the set, the order of its images, and this rank's batches."""

from __future__ import annotations

import numpy as np
import torch

from data_pipeline.augment.settings import PRESETS, Augmentation
from data_pipeline.loader.loader import TrainLoader
from data_pipeline.order.batching import Batching
from data_pipeline.order.blocks import BlockOrder
from data_pipeline.order.identities import IdentityOrder
from data_pipeline.order.whole_set import GlobalOrder, Order
from data_pipeline.sets.open import open_source
from data_pipeline.sets.source import ImageSource
from trainer.errors import TrainerInputError
from trainer.ranks import Ranks
from trainer.settings import Config, DataConfig


def open_set(config: Config) -> ImageSource:
    """The training set. Raises DataInputError."""
    data = config.data
    return open_source(data.train, min_images=data.min_images, follow_links=data.follow_links)


def make_order(config: Config, source: ImageSource) -> Order:
    """In which order its images come."""
    data, seed = config.data, config.training.seed
    match data.order:
        case "blocks":
            return BlockOrder(source.num_images, seed, data.block, data.window)
        case "identities":
            labels = source.labels_of(np.arange(source.num_images))
            return IdentityOrder(labels, seed, data.images_per_identity)
        case "random":
            return GlobalOrder(source.num_images, seed)


def make_batching(config: Config, order: Order, ranks: Ranks) -> Batching:
    """What each step takes of the order. Raises TrainerInputError if a step takes more than there is."""
    data = config.data
    try:
        return Batching(order, data.batch_size, ranks.rank, ranks.world_size, data.last_batch)
    except ValueError as error:
        raise TrainerInputError(f"--data.batch-size {data.batch_size}: {error}") from None


def augmentation(data: DataConfig) -> Augmentation:
    """Which changes training images undergo."""
    return PRESETS[data.preset] if data.augment == Augmentation() else data.augment


def make_loader(
    config: Config,
    source: ImageSource,
    order: Order,
    ranks: Ranks,
    position: int,
    device: torch.device,
    threads: int,
) -> TrainLoader:
    """This rank's batches from the position on. Raises DataInputError."""
    data = config.data
    return TrainLoader(
        source,
        order,
        batch_size=data.batch_size,
        rank=ranks.rank,
        world_size=ranks.world_size,
        position=position,
        last=data.last_batch,
        image_size=data.image_size,
        augmentation=augmentation(data),
        seed=config.training.seed,
        max_damaged=None,  # all ranks' damaged images count together: see damage.py
        device=device,
        num_threads=data.threads or threads,
        decoder=data.decoder,
    )
