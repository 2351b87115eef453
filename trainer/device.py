"""The device and the threads of a rank: what it sees, divided among those who see the same."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from data_pipeline.files.cores import Cores, own_cores, share_of
from trainer.errors import TrainerInputError
from trainer.ranks import Ranks
from trainer.settings import Config

_WITHOUT = "--device cpu trains without"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def check_device(config: Config, local_ranks: int, *, is_launcher: bool = False) -> None:
    """Raise TrainerInputError if there is not a CUDA device for every rank, unless `--device cpu` is said.

    local_ranks: the ranks of this machine. is_launcher: the ranks will see what this process sees; else this
    is a rank, and a scheduler may show each of them one device of its own. Where no rank sees any, `auto` is
    content with the CPU.
    """
    devices = _visible()
    if config.device == "cpu" or devices >= local_ranks or (devices == 1 and not is_launcher):
        return
    if devices == 0:
        if config.device == "auto":
            return
        raise TrainerInputError(f"--device cuda: torch finds no CUDA device here; {_WITHOUT}")
    raise TrainerInputError(
        f"--device {config.device}: {local_ranks} ranks need a CUDA device each, this machine shows "
        f"{devices}; start {devices}, or {_WITHOUT}"
    )


def choose_device(config: Config, ranks: Ranks) -> torch.device:
    """The device of this rank: of several that are visible the one with its local rank, or the only one.

    Raises TrainerInputError; see `check_device`.
    """
    check_device(config, ranks.local_world_size)
    devices = _visible()
    if config.device == "cpu" or devices == 0:
        return torch.device("cpu")
    # One that is shown to each rank alone (`srun --gpus-per-task=1`) is number 0 for each of them.
    device = torch.device("cuda", ranks.local_rank if devices >= ranks.local_world_size else 0)
    torch.cuda.set_device(device)
    return device


def check_devices_fit(ranks: Ranks, device: torch.device) -> None:
    """All ranks are on the same kind of device, and no two on the same CUDA device; all ranks call it.

    Raises TrainerInputError on one rank, FailedElsewhere on the others.
    """
    own = {"type": device.type, "id": _identity(device), "host": socket.gethostname()}
    everybody = ranks.gather(own)
    with ranks.agreed():
        _compare(everybody, ranks.rank)


def note_on_device(config: Config, device: torch.device) -> str | None:
    """What a user should be told loudly: a GPU that is there and is not used though nobody said so."""
    if config.device != "auto" or device.type != "cpu" or "CUDA_VISIBLE_DEVICES" in os.environ:
        return None
    if not _nvidia_devices():
        return None
    build = "its build is for CPUs" if torch.version.cuda is None else "its CUDA does not find the driver"
    return (
        f"this machine has an NVIDIA device, but torch {torch.__version__} cannot use it ({build}): "
        "training on the CPU; --device cpu says that this is meant"
    )


def own_share_of_cores(ranks: Ranks) -> int:
    """The cores for this rank, counted among the ranks of its host; all ranks call it."""
    cores = own_cores()
    own = [*_host(), list(cores.processors), cores.quota, cores.group]
    neighbours = [
        Cores(tuple(processors), quota, group)
        for *host, processors, quota, group in ranks.gather(own)
        if host == own[:2]
    ]
    return share_of(cores, neighbours)


def share_cores(ranks: Ranks) -> None:
    """Give this rank its share of the host's cores, unless OMP_NUM_THREADS is set; all ranks call it."""
    share = own_share_of_cores(ranks)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(share)


def _compare(everybody: Sequence[dict[str, Any]], rank: int) -> None:
    own, first = everybody[rank], everybody[0]
    if own["type"] != first["type"]:
        raise TrainerInputError(
            f"--device: rank {rank} on {own['host']} would train on {own['type']}, rank 0 on {first['host']} "
            f"on {first['type']}; give every rank a CUDA device, or --device cpu to all"
        )
    same = [other for other in range(rank) if own["id"] and everybody[other]["id"] == own["id"]]
    if same:
        raise TrainerInputError(
            f"--device: ranks {same[0]} and {rank} on {own['host']} see the same one CUDA device; give each "
            f"a device of its own (srun --gpus-per-task=1), start one rank for each device, or {_WITHOUT}"
        )


def _visible() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _identity(device: torch.device) -> str:
    """What no other CUDA device has; empty for the CPU."""
    return str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else ""


def _nvidia_devices() -> list[Path]:
    return list(Path("/dev").glob("nvidia[0-9]*"))


def _host() -> list[str]:
    # Two containers may have one name, and so may two machines that nobody has named.
    try:
        boot = _BOOT_ID.read_text().strip()
    except OSError:
        boot = ""
    return [socket.gethostname(), boot]
