"""A rank is lost, fails alone or has wrong input: one rank says one line, the others end soon and quietly."""

from __future__ import annotations

import re
import socket
import subprocess
from pathlib import Path

import pytest

from tests.trainer.tiny import ENDLESS, arguments, events, finish, start, wait_for_step
from tests.waiting import patience_s
from trainer import commands
from trainer.errors import TrainingFailed

pytestmark = pytest.mark.dali
LONG = ("--deadlines.start", "3000", "--deadlines.step", "3000", "--deadlines.save", "3000")
"""No deadline ends these runs: who fails or is lost is found out otherwise."""


def lines(ended: list[tuple[int, str]]) -> list[str]:
    return [line for _, error in ended for line in error.splitlines()]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            "memory",
            r"OutOfMemoryError: out of memory\. Tried to allocate 9 GiB\. .* smaller --data\.batch-size",
        ),
        ("unknown", r"RuntimeError: DataLoader timed out after 600 seconds, says gloo "),
    ],
)
def test_what_a_rank_meets_alone_it_says_alone(tmp_path: Path, data: Path, fault: str, words: str) -> None:
    command = ("tests.trainer.faulty_rank", fault, "1")
    ended = finish(start(3, arguments(tmp_path / "run", data, 4, *LONG), *command))
    assert [code for code, _ in ended] == [1, 1, 1]
    (line,) = lines(ended)
    assert line in ended[1][1]
    assert re.match(rf"cosface: step 3, rank 1 on \S+: {words}", line), line


@pytest.mark.parametrize(("fault", "deadline"), [("killed", LONG), ("stopped", ("--deadlines.step", "5"))])
def test_a_lost_rank_is_named_by_one_other(
    tmp_path: Path, data: Path, fault: str, deadline: tuple[str, ...]
) -> None:
    command = ("tests.trainer.faulty_rank", fault, "1")
    ranks = start(3, arguments(tmp_path / "run", data, 4, *deadline), *command)
    ended = finish(ranks, but=(1,))
    assert [ended[rank][0] for rank in (0, 2)] == [1, 1]
    (line,) = lines(ended)
    expected = rf"rank 1 \(process {ranks[1].pid} on \S+\) of 3 did not answer within 8 s: gone or stopped; "
    assert re.search(expected, line), line


def test_the_loss_of_the_rank_that_holds_the_store_is_told(tmp_path: Path, data: Path) -> None:
    command = ("tests.trainer.faulty_rank", "killed", "0")
    ended = finish(start(3, arguments(tmp_path / "run", data, 4, *LONG), *command))
    assert [code for code, _ in ended] == [-9, 1, 1]
    (line,) = lines(ended)
    assert re.search(r"rank 1 of 3: 127\.0\.0\.1:\d+ does not answer: rank 0 is gone or stopped; ", line), (
        line
    )


def test_a_rank_whose_file_is_missing_says_so_and_the_others_stop_at_once(tmp_path: Path, data: Path) -> None:
    own = {1: ["--config", str(tmp_path / "gone.toml")]}
    ended = finish(start(3, arguments(tmp_path / "run", data, 4, *LONG), of_rank=own))
    assert [code for code, _ in ended] == [2, 2, 2]
    (line,) = lines(ended)
    assert re.match(rf"cosface: rank 1 on \S+: .*{tmp_path}/gone\.toml", line), line
    assert line in ended[1][1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("RANK", "7", r"RANK is 7, it must be between 0 and WORLD_SIZE - 1 = 2, on \S+$"),
        ("RANK", "one", r"one of the variables .* is no number: .*, on \S+$"),
        ("RANK", "2", r"rank 2 on \S+: RANK 2 is given twice, also to rank 2 \(process \d+ on \S+\) of 3$"),
        ("WORLD_SIZE", "4", r"rank 1 on \S+: WORLD_SIZE is 4 here and 3 on another rank$"),
    ],
)
def test_wrong_numbers_of_ranks_are_told_and_the_others_stop_at_once(
    tmp_path: Path, data: Path, variable: str, value: str, words: str
) -> None:
    environments = {1: {variable: value}}
    ended = finish(start(3, arguments(tmp_path / "run", data, 4, *LONG), environments=environments))
    assert [code for code, _ in ended] == [2, 2, 2]
    (line,) = lines(ended)
    assert re.search(words, line), line


def test_rank_0_given_twice_is_told_and_the_other_stops(tmp_path: Path, data: Path) -> None:
    ended = finish(start(2, arguments(tmp_path / "run", data, 4, *LONG), environments={1: {"RANK": "0"}}))
    assert [code for code, _ in ended] == [2, 2]
    (line,) = lines(ended)
    assert re.search(r"RANK 0 is given twice, also to rank 0 \(process \d+ on \S+\) of 2$", line), line


def test_rank_0_says_that_its_port_is_in_use(data: Path, tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as other:
        own = {"MASTER_PORT": str(other.getsockname()[1])}
        ranks = start(2, arguments(tmp_path / "run", data, 4, *LONG), environments={0: own})
        try:
            _, error = ranks[0].communicate(timeout=patience_s())
        finally:
            for rank in ranks:
                rank.kill()
                rank.communicate()
    assert ranks[0].returncode == 1
    assert re.fullmatch(
        rf"cosface: rank 0: port {own['MASTER_PORT']} \(MASTER_PORT\) cannot be used: "
        "Address already in use; give another\n",
        error,
    ), error


def test_a_run_goes_on_when_another_is_started_at_its_port(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    first = start(2, arguments(run, data, 4, *LONG, *ENDLESS))
    try:
        wait_for_step(run, 2)
        port = address(first)
        others = start(
            2,
            arguments(tmp_path / "second", data, 4, *LONG),
            environments={rank: {"MASTER_PORT": port} for rank in range(2)},
        )
        ended = finish(others)
        assert [code for code, _ in ended] == [2, 2]
        for line in lines(ended):
            assert f"rank 0 (process {first[0].pid} on " in line, line
        step = events(run)[-1]["step"]
        wait_for_step(run, step + 5)
        first[0].terminate()
        assert [rank.wait(timeout=patience_s()) for rank in first] == [75, 75]
    finally:
        for rank in first:
            rank.kill()
            rank.communicate()


def address(ranks: list[subprocess.Popen[str]]) -> str:
    """The port at which ranks that run meet."""
    words = Path(f"/proc/{ranks[0].pid}/environ").read_text().split("\0")
    return dict(word.split("=", 1) for word in words if "=" in word)["MASTER_PORT"]


def test_a_lack_of_memory_outside_of_a_step_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> str:
        raise MemoryError("Unable to allocate 9 GiB\nfor an array")

    monkeypatch.setattr(commands, "run_training", run)
    words = ["--run", "r", "--data.train", "d", "--training.steps", "1", "--device", "cpu"]
    with pytest.raises(TrainingFailed, match=r"^no memory left: MemoryError: Unable to allocate 9 GiB$"):
        commands.train(words)
