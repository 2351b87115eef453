"""The `cosface` command: what it lists, what it refuses, what its exit codes mean."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from launch import cli
from launch.errors import LaunchInputError
from launch.job import LocalOptions, available_cores, training_job
from trainer.errors import TrainerInputError, TrainingFailed


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "launch.cli", *arguments], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "no command given; `cosface --help` lists them"),
        (("trian",), "unknown command 'trian': did you mean 'train'?"),
        (("zzz",), "unknown command 'zzz': there are train, launch, evaluate, pack, pairs, unpack, inspect"),
        (("launch", "mars"), "cosface launch knows `local`, got mars; see cosface launch --help"),
        (("launch", "local", "--run", "r"), "no `--`: the training options follow after it"),
        (("launch", "local", "--procesess", "2", "--"), "unknown setting --procesess; nearest: --processes"),
        (("launch", "local", "--processes", "0", "--"), "--processes 0: expected 1 to "),
        (("launch", "local", "--processes", "4000", "--"), "--processes 4000: expected 1 to "),
        (("launch", "local", "--port", "70000", "--"), "--port 70000: expected 1 to 65535"),
        (("pack", "nowhere", "out"), "nowhere: no such folder"),
        (("inspect", "nowhere"), "nowhere: no such folder"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(list(arguments)) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith(f"cosface: {says}")
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("launch", "usage: cosface launch local --processes N"),
        ("bench", "usage: cosface bench {head,loader} …"),
    ],
)
def test_a_command_without_its_kind_prints_how_it_is_used(
    command: str, usage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(usage)


def test_training_input_is_checked_before_a_rank_starts(
    tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["launch", "local", "--processes", "2", "--", "--run", f"{tmp_path}/run"]
    assert cli.main([*arguments, "--data.train", "nowhere", "--training.steps", "1"]) == 2
    complaint = capsys.readouterr().err
    assert "nowhere: no such folder" in complaint
    assert complaint.count("\n") == 1


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from launch.cli import main; code = main(['--help']); "
        "heavy = {'torch', 'numpy', 'tyro', 'rich'} & set(sys.modules); sys.exit(code or len(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert all(f"\n  {name} " in done.stdout for name in cli.COMMANDS)


def test_version() -> None:
    assert run("--version").stdout.startswith("cosface ")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = cli.main([name, "--help"])
    except SystemExit as stop:  # the settings library's own help
        code = stop.code
    assert code == 0
    assert f"cosface {name}" in capsys.readouterr().out


def raising(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (LaunchInputError("wrong"), 2, "cosface: wrong\n"),
        (TrainerInputError("wrong"), 2, "cosface: wrong\n"),
        (TrainingFailed("the loss is nan"), 1, "cosface: the loss is nan\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_become_exit_codes(
    error: BaseException, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.guarded(raising(error)) == code
    assert capsys.readouterr().err == says


def test_a_bug_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.guarded(raising(ZeroDivisionError("bug"))) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_closed_pipe_is_quiet() -> None:
    code = f"{sys.executable} -m launch.cli --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout in ("0\n", "141\n")


def test_ranks_share_the_cores_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    job = training_job(LocalOptions(processes=1), ["--run", "r"])
    assert job.environment["OMP_NUM_THREADS"] == str(available_cores())
    assert job.command[-4:] == ("-m", "trainer", "--run", "r")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert training_job(LocalOptions(processes=2), []).environment["OMP_NUM_THREADS"] == "3"
