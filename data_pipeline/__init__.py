"""Records, decoding, order and packing of face images."""

from typing import TYPE_CHECKING, Any

from data_pipeline.augment import Augmentation
from data_pipeline.batching import Batching
from data_pipeline.block_order import BlockOrder
from data_pipeline.dataset import FaceDataset, FaceDatasetWriter, write_dataset
from data_pipeline.errors import DataInputError, DatasetError, PairSetError, RecordError
from data_pipeline.identity_order import IdentityOrder
from data_pipeline.order import GlobalOrder, Order
from data_pipeline.recordio import Record, RecordReader, RecordWriter
from data_pipeline.source import ImageSource, Origin
from data_pipeline.sources import open_source

if TYPE_CHECKING:
    from data_pipeline.loader import Batch, TrainLoader

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
        from data_pipeline import loader

        return getattr(loader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
