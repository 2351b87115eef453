"""Records, decoding, order and packing of face images."""

from data_pipeline.dataset import FaceDataset, FaceDatasetWriter, write_dataset
from data_pipeline.errors import DataInputError, DatasetError, PairSetError, RecordError
from data_pipeline.recordio import Record, RecordReader, RecordWriter

__all__ = [
    "DataInputError",
    "DatasetError",
    "FaceDataset",
    "FaceDatasetWriter",
    "PairSetError",
    "Record",
    "RecordError",
    "RecordReader",
    "RecordWriter",
    "write_dataset",
]
