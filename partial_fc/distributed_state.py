"""A head's state as torch.distributed.checkpoint saves it, and loads it on any number of ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from partial_fc.head import PartialFC

if TYPE_CHECKING:  # and late: it takes half a second that only those need who save
    from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex
    from torch.distributed.checkpoint.planner import WriteItem

PIECE = 1 << 16
"""Classes written at a time: who reads one of them has the whole piece in memory for a moment."""


class DistributedState:
    """What `torch.distributed.checkpoint` takes for a head, beside a backbone's own state:

        dcp.save({"backbone": …, "head": DistributedState(head)}, checkpoint_id=folder)
        dcp.load({"backbone": …, "head": DistributedState(head)}, checkpoint_id=folder)

    Every rank writes its own classes and reads its own from whichever files hold them, so the number of ranks
    may change and none holds more than its shard and a piece. All travels bit for bit, `steps_taken` and
    `margin_state` too. `async_save` exchanges in the background: give it a process group of its own, lest it
    take turns with the head. `load` raises torch's CheckpointException for a checkpoint of another number of
    classes, embedding dimension, number of sub-centres or optimiser.
    """

    def __init__(self, head: PartialFC) -> None:
        self._head = head

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors by name: of the classes [num_classes, …], this rank's part in place; numbers as scalars."""
        head = self._head
        state = {"steps_taken": torch.tensor(head.steps_taken)}
        for name, value in head.margin_state.items():
            state[f"margin.{name}"] = torch.tensor(value, dtype=torch.float64)
        for name, rows in head.sharded_state().items():
            state[name] = ClassRows(rows, head.class_range[0], head.num_classes)
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over the numbers; the classes were read into their place."""
        self._head.steps_taken = int(state["steps_taken"])
        self._head.margin_state = {name: float(state[f"margin.{name}"]) for name in self._head.margin_state}


class ClassRows(Tensor):
    """[num_classes, …] of which this rank holds rows from `first` on: to be saved and loaded, nothing else.

    It speaks to torch.distributed.checkpoint as DTensor does, which itself knows no division of rows but
    torch.chunk's, and that is not `class_range`'s.
    """

    _local: Tensor
    _first: int

    @staticmethod
    def __new__(cls, local: Tensor, first: int, num_classes: int) -> ClassRows:
        """local: [classes of this rank, …], which is not copied."""
        shape = num_classes, *local.shape[1:]
        made: ClassRows = Tensor._make_wrapper_subclass(cls, shape, dtype=local.dtype, device=local.device)
        made._local, made._first = local, first
        return made

    def __create_chunk_list__(self) -> list[ChunkStorageMetadata]:
        """The pieces that this rank reads and writes; none for a rank without a class."""
        from torch.distributed.checkpoint.metadata import ChunkStorageMetadata

        starts, rest = range(0, len(self._local), PIECE), [0] * (self.dim() - 1)
        offsets = [torch.Size((self._first + start, *rest)) for start in starts]
        sizes = [self._local[start:][:PIECE].shape for start in starts]
        return list(map(ChunkStorageMetadata, offsets, sizes))

    def __create_write_items__(self, fqn: str, object: Tensor) -> list[WriteItem]:
        """Those pieces by the checkpoint's name for the whole."""
        from torch.distributed.checkpoint.metadata import MetadataIndex, TensorProperties
        from torch.distributed.checkpoint.planner import TensorWriteData, WriteItem, WriteItemType

        items, properties = [], TensorProperties.create_from_tensor(self._local)
        for chunk in self.__create_chunk_list__():
            data = TensorWriteData(chunk, properties, self.shape)
            items.append(WriteItem(MetadataIndex(fqn, chunk.offsets), WriteItemType.SHARD, tensor_data=data))
        return items

    def __get_tensor_shard__(self, index: MetadataIndex) -> Tensor:
        """Where a piece lies."""
        assert index.offset is not None
        return self._local[index.offset[0] - self._first :][:PIECE]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Nothing but the empty copy that `async_save` fills: no rank holds the whole."""
        if func is torch.ops.aten.new_empty.default and args[1] == list(args[0].shape):
            own: ClassRows = args[0]
            return cls(own._local.new_empty(own._local.shape, **kwargs), own._first, len(own))
        raise NotImplementedError(f"{func} of a head's state: save or load it, or ask head.sharded_state()")
