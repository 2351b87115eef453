"""How many cores there are for a process: those it may run on, no more than its cgroup's quota pays for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

_ROOT = Path("/")


@dataclass(frozen=True)
class Cores:
    """What a process may use: the processors by number, and the quota of its cgroup in cores, if it has one.

    group: names the cgroup whose quota it is, so that processes can tell whether they share it.
    """

    processors: tuple[int, ...]
    quota: float | None = None
    group: str = ""

    @property
    def count(self) -> int:
        """Whole cores, at least one: more threads than the quota pays for are all held up together."""
        paid = len(self.processors) if self.quota is None else min(len(self.processors), self.quota)
        return max(1, int(paid))


def own_cores(root: Path = _ROOT) -> Cores:
    """The cores of this process. root: where `proc` and `sys` are."""
    quotas = [*_quotas_v2(root), *_quotas_v1(root)]
    quota, group = min(quotas, default=(None, ""), key=lambda found: found[0] or 0.0)
    return Cores(_processors(), quota, group)


@cache
def available_cores() -> int:
    """How many cores this process may use, counted once."""
    return own_cores().count


def share_of(own: Cores, neighbours: Sequence[Cores]) -> int:
    """The cores for one of several processes of a machine, at least one.

    neighbours: what each of them may use, this one among them. A processor that k of them may run on counts
    1/k, so processes which are bound to processors of their own are not divided by their number again; a
    quota is divided by those that are in its cgroup.
    """
    users = {
        processor: sum(processor in neighbour.processors for neighbour in neighbours)
        for processor in own.processors
    }
    share = sum(1 / max(1, count) for count in users.values())
    if own.quota is not None:
        share = min(share, own.quota / max(1, sum(other.group == own.group for other in neighbours)))
    return max(1, int(share + 1e-6))  # thirds and their like do not add up to a whole number exactly


def _processors() -> tuple[int, ...]:
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def _quotas_v2(root: Path) -> Iterator[tuple[float, str]]:
    """Quotas of the cgroup and of those above it: the smallest holds."""
    for mount in ("sys/fs/cgroup", "sys/fs/cgroup/unified"):
        for folder in _folders(root, root / mount, ""):
            words = _words(folder / "cpu.max")
            if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
                yield int(words[0]) / int(words[1]), str(folder)


def _quotas_v1(root: Path) -> Iterator[tuple[float, str]]:
    for mount in ("sys/fs/cgroup/cpu,cpuacct", "sys/fs/cgroup/cpuacct,cpu", "sys/fs/cgroup/cpu"):
        for folder in _folders(root, root / mount, "cpu"):
            quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
            # -1: none
            if quota and period and quota[0].isdecimal() and period[0].isdecimal() and int(period[0]):
                yield int(quota[0]) / int(period[0]), str(folder)


def _folders(root: Path, mount: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's cgroup and of those above, as far as they can be seen from here.

    In a container the path may be the host's, which is not there: then the mount's top is the container's.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controller in controllers.split(","):
            own = PurePosixPath(path.lstrip("/"))
            for part in (own, *own.parents):
                if ".." not in part.parts:
                    yield mount / part
            return


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
