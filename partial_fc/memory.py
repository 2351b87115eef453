"""The memory that class centres take, and what a device has of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch

from partial_fc.communicator import Communicator
from partial_fc.errors import HeadInputError
from partial_fc.optim import Optimiser

_ROOT = Path("/")


@dataclass(frozen=True)
class Memory:
    """Bytes of a device: what this process may use at most, and what of it is free or can be freed now."""

    total: int
    free: int


def bytes_per_number(optimiser: Optimiser, moment_dtype: torch.dtype) -> int:
    """What a number of a class centre takes: itself, float32, and what the optimiser remembers of it."""
    number = torch.empty(1, 1, device="meta")
    moments = optimiser.first_moments(number, moment_dtype).values()
    return number.element_size() + sum(moment.element_size() for moment in moments)


def require_room(needed: int, num_classes: int, communicator: Communicator, device: torch.device) -> None:
    """Raise HeadInputError if the bytes that this rank's centres need are more than are free on the device.

    Before they are allocated: torch's error is no user's, and of memory that is there but for the asking the
    system takes the process away later.
    """
    memory = memory_of(device)
    if memory is not None and needed > memory.free:
        share = "" if communicator.world_size == 1 else f"rank {communicator.rank}'s share of "
        raise HeadInputError(
            f"{share}the centres of {num_classes} classes and what the optimiser remembers of them take "
            f"{in_words(needed)}, but of the {in_words(memory.total)} of {device} {in_words(memory.free)} "
            "are free; take more ranks, fewer classes or a smaller embedding_dim"
        )


def memory_of(device: torch.device, root: Path = _ROOT) -> Memory | None:
    """A device's memory; None if it cannot be told. root: where `proc` and `sys` are.

    Of a CPU it is the machine's, or what its cgroup allows if that is less.
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        # What torch holds and does not use it hands out again.
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return Memory(total, free + idle)
    if device.type != "cpu":
        return None
    found = [*_machine(root), *_cgroups(root)]
    if not found:
        return None
    return Memory(min(memory.total for memory in found), min(memory.free for memory in found))


def in_words(count: int) -> str:
    """Bytes for people: in GiB, or MiB where that is less than one."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"


def _machine(root: Path) -> Iterator[Memory]:
    lines = (line.split() for line in _text(root / "proc/meminfo").splitlines())
    kib = {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}
    if "MemTotal:" in kib and "MemAvailable:" in kib:
        yield Memory(kib["MemTotal:"] << 10, kib["MemAvailable:"] << 10)


def _cgroups(root: Path) -> Iterator[Memory]:
    """What the cgroup and those above it allow, as far as they can be seen from here, of both versions."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        own = PurePosixPath(path.lstrip("/"))
        if controllers == "":
            mount, limit, used, files = "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            mount, limit, used = "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            files = "total_inactive_file"
        else:
            continue
        for part in (own, *own.parents):
            folder = root / mount / part
            allowed, taken = _text(folder / limit).strip(), _text(folder / used).strip()
            if ".." in part.parts or not allowed.isdecimal() or not taken.isdecimal():
                continue
            # Pages of files that nobody used lately go when memory is wanted.
            lines = (line.split() for line in _text(folder / "memory.stat").splitlines())
            stat = {words[0]: int(words[1]) for words in lines if len(words) == 2}
            kept = int(taken) - stat.get(files, 0)
            yield Memory(int(allowed), max(int(allowed) - kept, 0))


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
