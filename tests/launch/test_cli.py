"""The `cosface` command: what it lists, what it refuses, what its exit codes mean."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from data_pipeline.files.cores import available_cores
from launch import cli
from launch.errors import LaunchInputError
from launch.job import LocalOptions, training_job
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


def test_ranks_of_one_machine_stay_on_its_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.delenv("NCCL_SOCKET_IFNAME", raising=False)
    environment = training_job(LocalOptions(processes=2), []).environment
    assert environment["GLOO_SOCKET_IFNAME"] == environment["NCCL_SOCKET_IFNAME"] == "lo"
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "eth7")
    assert training_job(LocalOptions(processes=2), []).environment["NCCL_SOCKET_IFNAME"] == "eth7"


def test_of_a_checkout_the_ranks_import_the_checkout() -> None:
    environment = training_job(LocalOptions(processes=1), []).environment
    assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(Path(cli.__file__).resolve().parents[1])


def test_installed_packages_never_stand_before_the_standard_library(tmp_path: Path) -> None:
    # A package of others' may be called as a module of the standard library is; first on the path, every rank
    # would take it for that.
    venv.create(tmp_path / "venv", with_pip=False)
    (folder,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    for package in ("launch", "trainer", "partial_fc", "data_pipeline"):
        source = Path(cli.__file__).resolve().parents[1] / package
        shutil.copytree(source, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "colorsys.py").write_text("raise ImportError('not the standard library')")
    (folder / "needed.pth").write_text(f"{Path(pytest.__file__).resolve().parents[1]}\n")
    python = tmp_path / "venv" / "bin" / "python"
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    program = (
        "import os, subprocess, sys; from launch.job import LocalOptions, training_job;"
        "job = training_job(LocalOptions(), []); print(job.environment.get('PYTHONPATH'));"
        "child = 'import colorsys, trainer; print(trainer.__file__)';"
        "subprocess.run([*job.command[:2], '-c', child], env=os.environ | job.environment, check=True)"
    )
    done = subprocess.run([python, "-c", program], cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert done.stderr == ""
    assert sorted(done.stdout.splitlines()) == sorted(["None", str(folder / "trainer" / "__init__.py")])
