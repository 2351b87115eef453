"""`cosface bench head`, small: what is measured is real, what is wrong is said in one line."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest

from launch.bench.measure import Measured, _rank
from launch.bench.rivals import Case
from launch.bench.scaling import growth
from launch.cli import main

SMALL = [
    "bench",
    "head",
    "--embedding-dim",
    "16",
    "--batch-size",
    "8",
    "--steps",
    "1",
    "--rivals",
    "loss_parallel",
]


def test_a_small_run_measures_all_and_can_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, picture = tmp_path / "out.json", tmp_path / "out.png"
    assert main([*SMALL, "--classes", "2000", "--json", str(file), "--plot", str(picture)]) == 0
    said = capsys.readouterr().out
    assert "cosface float32, rate 0.1" in said
    rows = {row["case"]["rival"] + row["case"]["dtype"]: row for row in json.loads(file.read_text())["rows"]}
    ours, theirs = rows["cosfacefloat32"]["measured"], rows["loss_parallelfloat32"]["measured"]
    assert ours["loss"] == pytest.approx(theirs["loss"], abs=8), "the same loss on other random centres"
    # Gathered embeddings and labels, three numbers an image, scattered gradients; and the batches' sizes.
    minimum = 8 * (16 * 4 * 2 + 8 + 12)
    assert minimum < ours["wire_bytes"] < 1.5 * minimum
    assert ours["step_s"] > 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    content = json.loads(file.read_text())
    for row in content["rows"]:
        if row["measured"]:
            row["measured"]["floor_s"] = 1e9  # as if it had been that much nearer to the floor
    file.write_text(json.dumps(content))
    assert main([*SMALL, "--classes", "2000", "--rivals", "none", "--against", str(file)]) == 1
    assert "slower: cosface float32, 2,000 classes" in capsys.readouterr().out


def test_one_rank_of_many(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--classes", "100000", "--of-ranks", "64", "--variants", "float32", "again", "--steps", "0"]
    assert main([*SMALL, *words]) == 0
    said = capsys.readouterr().out
    assert "loss_parallel" not in said
    assert "bfloat16" not in said
    assert "cosface float32, 100,000 classes, one rank of 64, 512 images: products" in said
    assert "(three)" in said
    assert "(four)" in said, "where exponentials are made again"


def test_growth_finds_the_fixed_part_and_the_cost_of_a_class() -> None:
    fixed, slope, least, most = growth([(count, 0.5 + 2e-6 * count) for count in (1000, 10_000, 10**6)])
    assert (fixed, slope, least, most) == pytest.approx((0.5, 2e-6, 1.0, 1.0))
    *_, least, most = growth([(10_000, 0.1), (20_000, 0.3), (40_000, 0.4)])
    assert least < 0.95
    assert most > 1.05


def test_several_sizes_are_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--classes", "200", "400", "800", "--variants", "bfloat16", "--rivals", "none"]
    assert main([*SMALL, *words]) == 0
    assert "cosface bfloat16: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["bench", "nothing"], "unknown benchmark 'nothing'"),
        ([*SMALL, "--ranks", "0"], "--ranks must be 1 or more, got 0"),
        (
            [*SMALL, "--rivals", "megatron"],
            "--rivals must be of loss_parallel, metric-learning, none, got",
        ),
        ([*SMALL, "--variants", "float8"], "--variants must be of float32, bfloat16, sampled, again"),
        ([*SMALL, "--against", "/no/such.json"], "--against /no/such.json: cannot be read"),
    ],
)
def test_what_is_refused(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1


class _Seen:
    """Takes a rank's results and notes where its process listens."""

    def __init__(self) -> None:
        self.results: list[object] = []
        self.addresses: set[str] = set()

    def put(self, result: object) -> None:
        self.results.append(result)
        own = {f"socket:[{line.split()[9]}]": line.split() for line in _tcp("tcp")}
        six = {f"socket:[{line.split()[9]}]": line.split() for line in _tcp("tcp6")}
        for descriptor in os.listdir("/proc/self/fd"):
            try:
                target = os.readlink(f"/proc/self/fd/{descriptor}")
            except FileNotFoundError:
                continue
            if target in own | six and (own | six)[target][3] == "0A":  # listening
                self.addresses.add((own | six)[target][1].partition(":")[0])


def _tcp(kind: str) -> list[str]:
    return Path(f"/proc/self/net/{kind}").read_text().splitlines()[1:]


def test_its_ranks_listen_on_the_loopback_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "")  # so that it is put back
    with tempfile.TemporaryDirectory() as folder:
        case, seen = Case("cosface", 100, 16, 8, ranks=1), _Seen()
        _rank(0, 1, os.path.join(folder, "store"), case, 1, seen)
    assert [type(result) for result in seen.results] == [Measured]
    assert seen.addresses <= {"0100007F", "00000000000000000000000001000000"}
    assert os.environ["GLOO_SOCKET_IFNAME"] == os.environ["NCCL_SOCKET_IFNAME"] == "lo"
