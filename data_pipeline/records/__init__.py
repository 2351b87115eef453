"""mxnet's RecordIO: bytes on a disk."""
