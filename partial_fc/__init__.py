"""The sharded margin-softmax classifier: `from partial_fc import PartialFC, CosFace`.

Usable on its own: it knows nothing of trainers, files or clusters.
"""

from __future__ import annotations

from partial_fc.communicator import Horovod
from partial_fc.distributed_state import DistributedState
from partial_fc.head import PartialFC
from partial_fc.margins import (
    MARGINS,
    AdaFace,
    ArcFace,
    CombinedMargin,
    CosFace,
    CurricularFace,
    ElasticFace,
    LSoftmax,
    MagFace,
    Margin,
    NormalizedSoftmax,
    Softmax,
    SphereFace,
    SphereFaceNormFea,
    make_margin,
)
from partial_fc.optim import SGD, AdamW, Optimiser
from partial_fc.sharding import class_range

__all__ = [
    "MARGINS",
    "SGD",
    "AdaFace",
    "AdamW",
    "ArcFace",
    "CombinedMargin",
    "CosFace",
    "CurricularFace",
    "DistributedState",
    "ElasticFace",
    "Horovod",
    "LSoftmax",
    "MagFace",
    "Margin",
    "NormalizedSoftmax",
    "Optimiser",
    "PartialFC",
    "Softmax",
    "SphereFace",
    "SphereFaceNormFea",
    "class_range",
    "make_margin",
]
