"""The sharded margin-softmax classifier: `from partial_fc import PartialFC, CosFace`.

Usable on its own: it knows nothing of trainers, files or clusters.
"""

from __future__ import annotations

from partial_fc.head import PartialFC
from partial_fc.margins import CosFace, Margin, NormalizedSoftmax, Softmax, make_margin
from partial_fc.sharding import class_range

__all__ = ["CosFace", "Margin", "NormalizedSoftmax", "PartialFC", "Softmax", "class_range", "make_margin"]
