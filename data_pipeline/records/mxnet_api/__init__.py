"""The names and manners of `mxnet.recordio`, for code that imports it."""
