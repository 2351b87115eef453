"""What must be the same on all ranks before a run begins: settings, versions, the run's folder."""

from __future__ import annotations

import hashlib
import json
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from trainer.errors import TrainerInputError, not_written
from trainer.ranks import Ranks
from trainer.settings import Config

OWN_TO_A_RANK = ("--run", "--data.train", "--data.threads", "--device")
"""Settings in which ranks may differ: a folder may be mounted elsewhere, a machine may be of another kind.
Whether the folders hold the same is found out by what is in them."""
PACKAGES = ("cosface", "torch", "numpy")
"""What computes weights, centres, order and augmentation; another version may do so to other bits."""
_PATIENCE_S = 15.0
"""How long a file may take to be seen by other machines: network file systems remember what they saw."""


def check_settings(config: Config, ranks: Ranks) -> None:
    """Raise TrainerInputError, on rank 0, for the first setting or version in which a rank differs."""
    facts = {name: value for name, value in _settings(config) if name not in OWN_TO_A_RANK}
    facts |= {f"the version of {name}": version for name, version in versions().items()}
    check_same(facts, ranks, "give every rank the same settings, and every machine the same packages")


def check_same(facts: Mapping[str, str], ranks: Ranks, advice: str) -> None:
    """Raise TrainerInputError if these named values are not the same on all ranks.

    The first that differs is named with both values, the rank and its host. Every rank calls this together.
    """
    ordered = list(facts.items())
    digest = hashlib.blake2b(json.dumps(ordered).encode()).hexdigest()
    if len({told for told, _ in ranks.gather([digest, ""])}) == 1:
        return
    everybody = ranks.gather([socket.gethostname(), ordered])
    first_host, first = everybody[0][0], dict(everybody[0][1])
    with ranks.agreed():
        for rank, (host, told) in enumerate(everybody):
            there = dict(told)
            for name in [*first, *(name for name in there if name not in first)]:
                if first.get(name) != there.get(name):
                    raise TrainerInputError(
                        f"{name} is {there.get(name)} on rank {rank} ({host}) and {first.get(name)} "
                        f"on rank 0 ({first_host}); {advice}"
                    )


def check_common_folder(run: Path, ranks: Ranks) -> None:
    """Raise TrainerInputError, naming rank and host, where a rank does not see what rank 0 writes there.

    Every rank calls this together, rank 0 as the holder of the folder.
    """
    if ranks.world_size == 1:
        return
    name, host = ranks.gather([f".start-{secrets.token_hex(8)}", socket.gethostname()])[0]
    file = run / name
    try:
        with ranks.agreed():
            if ranks.is_first:
                for old in run.glob(".start-*"):
                    old.unlink(missing_ok=True)
                try:
                    file.touch()
                except OSError as error:
                    raise not_written(file, error) from error
        with ranks.agreed():
            if not _comes(file):
                raise TrainerInputError(
                    f"--run {run}: rank {ranks.rank} on {socket.gethostname()} does not see in "
                    f"{run.absolute()} what rank 0 on {host} writes; "
                    "every machine needs the same --run folder"
                )
    finally:
        if ranks.is_first:
            with suppress(OSError):
                file.unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """The versions that this process runs with."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _settings(value: Any, name: str = "-") -> Iterator[tuple[str, str]]:
    """Every setting with its value as words: `--section.key`."""
    for one in fields(value):
        inner, own = getattr(value, one.name), one.name.replace("_", "-")
        path = f"--{own}" if name == "-" else f"{name}.{own}"
        if is_dataclass(inner):
            yield from _settings(inner, path)
        else:
            yield path, " ".join(map(str, inner)) if isinstance(inner, tuple) else str(inner)


def _comes(file: Path) -> bool:
    """A name that nobody has asked for yet is in no machine's memory, so it is seen soon or never."""
    end = time.monotonic() + _PATIENCE_S
    while not file.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True
