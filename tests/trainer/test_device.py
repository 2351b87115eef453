"""Which device and how many threads a rank gets, for what torch and the system show it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from data_pipeline.files.cores import Cores
from tests.ranks import run_ranks, these_ranks
from tests.trainer.tiny import alone, arguments, write_tiny_set
from trainer import device as devices
from trainer.check import check
from trainer.config import load_config
from trainer.device import (
    check_device,
    check_devices_fit,
    choose_device,
    note_on_device,
    own_share_of_cores,
    share_cores,
)
from trainer.errors import TrainerInputError
from trainer.ranks import FailedElsewhere, Ranks
from trainer.settings import Config


def _config(device: str) -> Config:
    return load_config(["--run", "r", "--data.train", "d", "--training.steps", "1", "--device", device])


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """What became the current CUDA device."""
    calls: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", calls.append)
    return calls


def _show(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("asked", "visible", "local", "expected"),
    [
        ("auto", 0, (1, 2), "cpu"),
        ("cuda", 0, (1, 2), "torch finds no CUDA device here; --device cpu trains without"),
        ("auto", 1, (0, 1), "cuda:0"),
        # srun --gpus-per-task=1: each of four ranks sees its own alone.
        ("auto", 1, (3, 4), "cuda:0"),
        ("cuda", 1, (3, 4), "cuda:0"),
        ("auto", 4, (3, 4), "cuda:3"),
        ("cuda", 8, (3, 4), "cuda:3"),
        # Neither one for each nor one alone: which rank would have which?
        (
            "auto",
            4,
            (1, 8),
            "8 ranks need a CUDA device each, this machine shows 4; start 4, or --device cpu",
        ),
        (
            "cuda",
            2,
            (1, 4),
            "4 ranks need a CUDA device each, this machine shows 2; start 2, or --device cpu",
        ),
        ("cpu", 4, (1, 8), "cpu"),
        ("cpu", 1, (1, 8), "cpu"),
    ],
)
def test_the_device_of_a_rank(
    monkeypatch: pytest.MonkeyPatch,
    taken: list[torch.device],
    asked: str,
    visible: int,
    local: tuple[int, int],
    expected: str,
) -> None:
    _show(monkeypatch, visible)
    ranks = Ranks(local[0], local[1], *local)
    if " " in expected:
        with pytest.raises(TrainerInputError) as caught:
            choose_device(_config(asked), ranks)
        assert str(caught.value).startswith(f"--device {asked}: {expected}")
        assert "\n" not in str(caught.value)
        assert taken == []
    else:
        assert str(choose_device(_config(asked), ranks)) == expected
        assert [str(device) for device in taken] == ([expected] if expected != "cpu" else [])


@pytest.mark.parametrize(
    ("asked", "visible", "complaint"),
    [
        ("auto", 0, None),
        ("auto", 1, "--device auto: 2 ranks need a CUDA device each, this machine shows 1; start 1, or"),
        ("cuda", 1, "--device cuda: 2 ranks need a CUDA device each, this machine shows 1; start 1, or"),
        ("cpu", 1, None),
        ("auto", 2, None),
    ],
)
def test_the_launcher_knows_that_its_ranks_see_what_it_sees(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: str, visible: int, complaint: str | None
) -> None:
    _show(monkeypatch, visible)
    config = dataclasses.replace(_config(asked), run=tmp_path)
    if complaint is None:
        check_device(config, 2, is_launcher=True)
        return
    with pytest.raises(TrainerInputError, match=re.escape(complaint)):
        check(config, 2)
    check_device(config, 2)  # a rank of a scheduler's may see one alone


FITS = [
    (["cpu", "cpu", "cpu"], ["", "", ""], ["fits"] * 3),
    (["cuda", "cuda", "cuda"], ["A", "B", "C"], ["fits"] * 3),
    (
        ["cuda", "cuda", "cuda"],
        ["A", "B", "B"],
        [
            "rank 2 says it",
            "rank 2 says it",
            "--device: ranks 1 and 2 on .* see the same one CUDA device; .*",
        ],
    ),
    (
        ["cuda", "cpu", "cuda"],
        ["A", "", "C"],
        [
            "rank 1 says it",
            "--device: rank 1 on .* would train on cpu, rank 0 on .* on cuda; give every rank .*",
            "rank 1 says it",
        ],
    ),
]


def _fit() -> list[str]:
    ranks, said = these_ranks(), []
    for kinds, identities, _ in FITS:
        identity = identities[ranks.rank]
        with patch("trainer.device._identity", lambda device, identity=identity: identity):
            try:
                check_devices_fit(ranks, torch.device(kinds[ranks.rank]))
                said.append("fits")
            except TrainerInputError as error:
                said.append(str(error))
            except FailedElsewhere as elsewhere:
                said.append(f"rank {elsewhere.rank} says it")
    return said


def test_the_devices_of_all_ranks_fit_each_other() -> None:
    said = run_ranks(3, _fit)
    for case, words in zip(FITS, zip(*said, strict=True), strict=True):
        assert all(re.fullmatch(*pair) for pair in zip(case[2], words, strict=True)), words


def test_a_gpu_that_torch_cannot_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "_nvidia_devices", list)
    assert note_on_device(_config("auto"), cpu) is None
    monkeypatch.setattr(devices, "_nvidia_devices", lambda: [Path("/dev/nvidia0")])
    note = note_on_device(_config("auto"), cpu)
    assert note is not None
    assert "has an NVIDIA device, but torch" in note
    assert "training on the CPU; --device cpu says that this is meant" in note
    assert note_on_device(_config("cpu"), cpu) is None
    assert note_on_device(_config("auto"), torch.device("cuda", 0)) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # hidden on purpose
    assert note_on_device(_config("auto"), cpu) is None


def test_the_note_is_among_the_first_lines_of_a_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "_nvidia_devices", lambda: [Path("/dev/nvidia0")])
    _show(monkeypatch, 0)
    words = arguments(tmp_path / "run", write_tiny_set(tmp_path / "data"), 16, "--training.steps", "1")
    alone([*words, "--device", "auto"])
    assert "note: this machine has an NVIDIA device, but torch" in capsys.readouterr().out


SHARES = [
    # Unbound: the host's eight processors are divided.
    ([list(range(8))] * 4, ["a"] * 4, [2, 2, 2, 2]),
    # srun and taskset give each rank processors of its own: not divided again.
    ([[0, 1], [2, 3], [4, 5], [6, 7]], ["a"] * 4, [2, 2, 2, 2]),
    # One rank a host, and two hosts with two.
    ([list(range(8))] * 4, ["a", "b", "c", "d"], [8, 8, 8, 8]),
    ([list(range(8))] * 4, ["a", "a", "b", "b"], [4, 4, 4, 4]),
    # Not in blocks: ranks are dealt to the hosts one by one.
    ([list(range(8))] * 4, ["a", "b", "a", "c"], [4, 8, 4, 8]),
]


def _share() -> list[int]:
    ranks, shares = these_ranks(), []
    for bound, hosts, _ in SHARES:
        cores, host = Cores(tuple(bound[ranks.rank])), hosts[ranks.rank]
        with (
            patch("trainer.device.own_cores", lambda cores=cores: cores),
            patch("trainer.device._host", lambda host=host: [host, "boot"]),
        ):
            shares.append(own_share_of_cores(ranks))
    return shares


def test_threads_are_divided_among_who_shares_them() -> None:
    for case, shares in zip(SHARES, zip(*run_ranks(4, _share), strict=True), strict=True):
        assert list(shares) == case[2]


def test_torch_gets_them_unless_the_user_has_said_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(devices, "own_cores", lambda: Cores((0, 1, 2, 3, 4), 3.0, "/pod"))
    try:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        share_cores(Ranks())
        assert torch.get_num_threads() == before
        monkeypatch.delenv("OMP_NUM_THREADS")
        share_cores(Ranks())
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
