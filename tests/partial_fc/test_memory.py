"""Centres that a device has no room for are refused before any are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from partial_fc import SGD, AdamW, CosFace, PartialFC
from partial_fc.communicator import StandIn
from partial_fc.errors import HeadInputError
from partial_fc.memory import Memory, bytes_per_number, memory_of

CPU = torch.device("cpu")
GIB = 1 << 30


def test_a_billion_classes_are_one_sentence() -> None:
    with pytest.raises(
        HeadInputError, match=r"^the centres of 1000000000 classes .* take 3,814\.7 GiB"
    ) as caught:
        PartialFC(10**9, 512, CosFace(64.0, 0.35))
    assert "\n" not in str(caught.value)
    assert "of cpu" in str(caught.value)
    with pytest.raises(HeadInputError, match="the centres of 2 classes"):
        PartialFC(2, 10**15, CosFace(64.0, 0.35))


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ({}, 8),
        ({"moment_dtype": torch.bfloat16}, 6),
        ({"optimiser": AdamW()}, 12),
        ({"optimiser": AdamW(), "moment_dtype": torch.bfloat16}, 10),
    ],
)
def test_what_a_rank_would_hold_counts(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], needed: int
) -> None:
    """100 classes of 4 numbers, two centres each, on two ranks: 400 numbers a rank."""
    margin = CosFace(64.0, 0.35, centres_per_class=2)
    made = bytes_per_number(options.get("optimiser", SGD()), options.get("moment_dtype", torch.float32))
    assert made == needed
    arguments: dict[str, Any] = {"communicator": StandIn(2), **options}
    monkeypatch.setattr("partial_fc.memory.memory_of", lambda device: Memory(GIB, 400 * needed))
    head = PartialFC(100, 4, margin, **arguments)
    assert sum(tensor.nbytes for tensor in head.sharded_state().values()) == 400 * needed
    monkeypatch.setattr("partial_fc.memory.memory_of", lambda device: Memory(GIB, 400 * needed - 1))
    with pytest.raises(
        HeadInputError, match=r"rank 0's share of the centres of 100 .* take 0\.0 MiB, but of"
    ):
        PartialFC(100, 4, margin, **arguments)


def test_a_device_that_cannot_tell_is_not_asked() -> None:
    assert memory_of(torch.device("meta")) is None
    assert memory_of(CPU, Path("/nonexistent")) is None


def test_this_machine_has_memory() -> None:
    memory = memory_of(CPU)
    if Path("/proc/meminfo").exists():
        assert memory is not None
        assert 0 < memory.free <= memory.total


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MACHINE = {
    "proc/meminfo": "MemTotal:  8388608 kB\nMemFree: 1 kB\nMemAvailable:  4194304 kB\nHugePages_Total: 0\n"
}


def test_the_smallest_of_machine_and_cgroups_counts(tmp_path: Path) -> None:
    assert memory_of(CPU, write(tmp_path, MACHINE)) == Memory(8 * GIB, 4 * GIB)
    write(tmp_path, {"proc/self/cgroup": "4:cpu:/a\n0::/a/b\n"})
    assert memory_of(CPU, tmp_path) == Memory(8 * GIB, 4 * GIB), "none that can be seen"
    group = "sys/fs/cgroup/a/"
    write(
        tmp_path,
        {
            f"{group}b/memory.max": "max\n",
            f"{group}b/memory.current": "5\n",
            f"{group}memory.max": f"{2 * GIB}\n",
            f"{group}memory.current": f"{GIB}\n",
            f"{group}memory.stat": f"anon 7\ninactive_file {GIB // 2}\n",
        },
    )
    assert memory_of(CPU, tmp_path) == Memory(2 * GIB, 2 * GIB - GIB // 2)


def test_cgroups_of_the_first_version(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory/job/"
    write(
        tmp_path,
        {
            **MACHINE,
            "proc/self/cgroup": "4:memory:/job\n1:cpu,cpuacct:/job\n0::/\n",
            f"{group}memory.limit_in_bytes": f"{GIB}\n",
            f"{group}memory.usage_in_bytes": f"{GIB + 5}\n",
            f"{group}memory.stat": "inactive_file 3\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1\n",
        },
    )
    assert memory_of(CPU, tmp_path) == Memory(GIB, 0)


@pytest.mark.gpu
def test_a_cuda_device_has_its_own_memory() -> None:
    memory = memory_of(torch.device("cuda"))
    assert memory is not None
    assert 0 < memory.free <= memory.total
    with pytest.raises(HeadInputError, match=r"of cuda .* are free"):
        PartialFC(10**9, 512, CosFace(64.0, 0.35), device="cuda")
