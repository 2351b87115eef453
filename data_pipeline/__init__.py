"""Records, decoding, order and packing of face images."""

from typing import TYPE_CHECKING, Any

from data_pipeline.augment.settings import Augmentation
from data_pipeline.errors import DataInputError, DatasetError, PairSetError, RecordError
from data_pipeline.order.batching import Batching
from data_pipeline.order.blocks import BlockOrder
from data_pipeline.order.identities import IdentityOrder
from data_pipeline.order.whole_set import GlobalOrder, Order
from data_pipeline.records.reader import Record, RecordReader, RecordWriter
from data_pipeline.sets.open import open_source
from data_pipeline.sets.record_folder import FaceDataset, FaceDatasetWriter, write_dataset
from data_pipeline.sets.source import ImageSource, Origin

if TYPE_CHECKING:
    from data_pipeline.loader.loader import Batch, TrainLoader

__all__ = [
    "Augmentation",
    "Batch",
    "Batching",
    "BlockOrder",
    "DataInputError",
    "DatasetError",
    "FaceDataset",
    "FaceDatasetWriter",
    "GlobalOrder",
    "IdentityOrder",
    "ImageSource",
    "Order",
    "Origin",
    "PairSetError",
    "Record",
    "RecordError",
    "RecordReader",
    "RecordWriter",
    "TrainLoader",
    "open_source",
    "write_dataset",
]


def __getattr__(name: str) -> Any:
    """The loader brings in torch, which takes seconds: only who asks for it waits."""
    if name in ("Batch", "TrainLoader"):
        import data_pipeline.loader.loader as loader

        return getattr(loader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
