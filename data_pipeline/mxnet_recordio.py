"""mxnet's `recordio` module without mxnet, under the name that users' code imports it by.

`from data_pipeline import mxnet_recordio as recordio`; see records/mxnet_api/recordio.py.
"""

from data_pipeline.records.mxnet_api.recordio import (
    IRHeader,
    MXIndexedRecordIO,
    MXRecordIO,
    pack,
    pack_img,
    unpack,
    unpack_img,
)

__all__ = ["IRHeader", "MXIndexedRecordIO", "MXRecordIO", "pack", "pack_img", "unpack", "unpack_img"]
