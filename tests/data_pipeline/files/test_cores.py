"""Cores: those that a process may run on, no more than its quota pays for, divided among who shares them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_pipeline.files.cores import Cores, available_cores, own_cores, share_of

ROOT = Path(__file__).parents[4]
MANY = tuple(range(64))


def _machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture(autouse=True)
def _on_64_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(MANY))


V2 = "0::/kubepods/pod1\n"
V1 = "12:cpuset:/\n4:cpu,cpuacct:/docker/abc\n0::/\n"


@pytest.mark.parametrize(
    ("files", "quota", "count"),
    [
        ({}, None, 64),
        ({"proc/self/cgroup": V2}, None, 64),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/kubepods/pod1/cpu.max": "max 100000\n"}, None, 64),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/kubepods/pod1/cpu.max": "400000 100000\n"}, 4.0, 4),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/kubepods/pod1/cpu.max": "350000 100000\n"}, 3.5, 3),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/kubepods/pod1/cpu.max": "20000 100000\n"}, 0.2, 1),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/kubepods/pod1/cpu.max": "99900000 100000\n"}, 999.0, 64),
        # The smallest of its own and of those above holds.
        (
            {
                "proc/self/cgroup": V2,
                "sys/fs/cgroup/kubepods/pod1/cpu.max": "800000 100000\n",
                "sys/fs/cgroup/kubepods/cpu.max": "600000 100000\n",
            },
            6.0,
            6,
        ),
        # In a container the path may be the host's, and what is seen at the top is the container's own.
        ({"proc/self/cgroup": "0::/../../abc\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2.0, 2),
        ({"proc/self/cgroup": "0::/system.slice/x\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2.0, 2),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "50000\n",
            },
            5.0,
            5,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            3.0,
            3,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000\n",
            },
            None,
            64,
        ),
        ({"proc/self/cgroup": "rubbish\n", "sys/fs/cgroup/cpu.max": "x y\n"}, None, 64),
    ],
)
def test_quotas(tmp_path: Path, files: dict[str, str], quota: float | None, count: int) -> None:
    cores = own_cores(_machine(tmp_path, files))
    assert cores.quota == quota
    assert cores.count == count
    assert cores.processors == MANY


def test_fewer_processors_than_the_quota_pays_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {3, 5})
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "400000 100000"}
    assert own_cores(_machine(tmp_path, files)).count == 2


@pytest.mark.parametrize(
    ("neighbours", "share"),
    [
        ([Cores(MANY)], 64),
        # Eight ranks that may run anywhere: divided.
        ([Cores(MANY)] * 8, 8),
        ([Cores(MANY)] * 3, 21),
        ([Cores(tuple(range(6)))] * 3, 2),
        ([Cores((0,))] * 4, 1),
        # srun and taskset have bound each to eight of its own: not divided again.
        ([Cores(tuple(range(8 * rank, 8 * rank + 8))) for rank in range(8)], 8),
        # Two ranks a socket.
        ([Cores(tuple(range(32 * (rank // 2), 32 * (rank // 2) + 32))) for rank in range(4)], 16),
        # A quota for all together, and one for each.
        ([Cores(MANY, 16.0, "/pod")] * 4, 4),
        ([Cores(MANY, 16.0, f"/task{rank}") for rank in range(4)], 16),
        ([Cores(tuple(range(8 * rank, 8 * rank + 8)), 16.0, "/pod") for rank in range(8)], 2),
        ([Cores(MANY, 3.0, "/pod")] * 8, 1),
    ],
)
def test_shares(neighbours: list[Cores], share: int) -> None:
    assert share_of(neighbours[0], neighbours) == share


def test_a_process_bound_to_one_processor_has_one() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("processes cannot be bound here")
    script = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
        "from data_pipeline.files.cores import available_cores; print(available_cores())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"


def test_it_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    available_cores.cache_clear()
    first = available_cores()
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0})
    assert available_cores() == first
    available_cores.cache_clear()
