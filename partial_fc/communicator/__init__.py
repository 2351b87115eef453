"""The exchanges between ranks that the head needs: two collectives, everything else is built from them."""

from __future__ import annotations

from partial_fc.communicator.base import Communicator, Counting, Patient, SingleRank, StandIn
from partial_fc.communicator.horovod import Horovod
from partial_fc.communicator.torch_distributed import TorchDistributed, default_communicator

__all__ = [
    "Communicator",
    "Counting",
    "Horovod",
    "Patient",
    "SingleRank",
    "StandIn",
    "TorchDistributed",
    "default_communicator",
]
