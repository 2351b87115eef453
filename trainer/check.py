"""Everything about a run that can be wrong before it starts, so that no rank is started in vain."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import torch

from data_pipeline.loader.loader import check_decoder
from data_pipeline.sets.fingerprint import Fingerprint, fingerprint
from data_pipeline.sets.source import ImageSource
from trainer.backbones import BACKBONES
from trainer.data import make_batching, make_order, open_set
from trainer.device import check_device
from trainer.errors import TrainerInputError
from trainer.loss_options import make_loss
from trainer.losses.choice import check_installed
from trainer.ranks import Ranks
from trainer.recipe import settled
from trainer.room import check_room
from trainer.run_directory import is_used
from trainer.settings import Config
from trainer.sound import newest_readable
from trainer.state import ModelDescription, SavedState
from trainer.tyro_messages import sentence


def check(config: Config, world_size: int, local_ranks: int | None = None) -> None:
    """Raise TrainerInputError or DataInputError for settings, data or a run folder that cannot be used.

    world_size: the ranks that would be started; local_ranks: those of this machine; not given by a launcher,
    which will start all of them here.
    Nothing is written.
    """
    _check_run_folder(config)
    try:
        settled(config.optim, config.data.batch_size * world_size, 1)
    except ValueError as error:
        raise TrainerInputError(sentence("optim", str(error))) from None
    here = world_size if local_ranks is None else local_ranks
    check_device(config, here, is_launcher=local_ranks is None)
    if config.head.loss != "none":
        make_loss(config.head)
    check_installed(config.auxiliary)
    check_decoder(config.data.decoder, torch.device("cuda" if config.device == "cuda" else "cpu"))
    with closing(open_set(config)) as dataset:
        _check_set(config, dataset, world_size)
        check_room(config, dataset, world_size, world_size if local_ranks is None else local_ranks)
        _check_checkpoint(config, dataset)
    if config.evaluation.verification:
        # Late: a run without evaluation need not wait for its imports.
        from trainer.evaluation.run import check_pair_sets

        check_pair_sets(config.evaluation.verification)


def describe_model(config: Config, dataset: ImageSource) -> ModelDescription:
    """What the run trains, from its settings and its set."""
    return ModelDescription(
        backbone=config.model.backbone,
        embedding_dim=config.model.embedding_dim,
        image_size=config.data.image_size or dataset.image_size,
        num_classes=dataset.num_classes,
        loss=config.head.loss,
        sub_centers=config.head.sub_centers,
        seed=config.training.seed,
        head_optimizer=config.head.optimizer,
        auxiliary=config.auxiliary.loss,
        num_images=dataset.num_images,
        order=config.data.order_in_words,
    )


def check_same_model(
    config: Config, checkpoint: Path, saved: SavedState, model: ModelDescription, data: Fingerprint
) -> None:
    """Raise TrainerInputError if the run's checkpoint is of another model or set.

    With --resume-with-other-data the set may be another one, of as many identities.
    """
    where = f"--run {config.run}: its checkpoint {checkpoint.name}"
    differences = saved.model.differences(model)
    if saved.model.differences(model, other_data=True):
        raise TrainerInputError(
            f"{where} is of another model or set: {differences}; "
            "choose another folder, or the same settings and data"
        )
    if not differences and saved.data:
        differences = saved.data.differences(data)
    if differences and not config.resume_with_other_data:
        raise TrainerInputError(
            f"{where} is of another set: {differences}; give the same set, or say --resume-with-other-data "
            "to go on with this one"
        )


def check_same_set(config: Config, data: Fingerprint, first: Fingerprint) -> None:
    """Raise TrainerInputError if this rank's copy of the set is not rank 0's."""
    if not (differences := first.differences(data, "on rank 0", "here")):
        return
    (images, classes), (of_first, classes_of_first) = data.size, first.size
    if (images, classes) != (of_first, classes_of_first):
        differences = (
            f"holds {images} images of {classes} identities here, {of_first} of {classes_of_first} on rank 0"
        )
    names = " ".join(one.name for one in data.sets)
    raise TrainerInputError(
        f"--data.train {names}: {differences}; give every machine the same set, in the same order"
    )


def _check_run_folder(config: Config) -> None:
    run = config.run
    if run.exists() and not run.is_dir():
        raise TrainerInputError(f"--run {run}: is a file, a folder is expected")
    if config.resume == "never" and is_used(run):
        raise TrainerInputError(
            f"--run {run}: holds a run already and --resume is never; choose another folder or --resume auto"
        )


def _check_set(config: Config, dataset: ImageSource, world_size: int) -> None:
    batch = config.data.batch_size
    make_batching(config, make_order(config, dataset), Ranks(0, world_size))
    if batch < 2 and BACKBONES[config.model.backbone].has_batch_norm:
        raise TrainerInputError(
            f"--data.batch-size {batch}: {config.model.backbone} has batch norm, it needs 2 or more"
        )
    if dataset.num_classes < 2:
        raise TrainerInputError(f"{dataset.name}: holds one identity, at least two are needed")


def _check_checkpoint(config: Config, dataset: ImageSource) -> None:
    if found := newest_readable(config.run):
        check_same_model(config, *found, describe_model(config, dataset), fingerprint(dataset))
