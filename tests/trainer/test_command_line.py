from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from trainer.command_line import nearest_name, parse, setting_names
from trainer.errors import SettingsError


@dataclass(frozen=True)
class Head:
    """A section."""

    margin: float = 0.35
    """How far."""
    flip: bool = True
    size: tuple[int, int] | None = None
    files: tuple[Path, ...] = ()
    loss: Literal["cosface", "softmax"] = "cosface"
    batch_size: int = 3

    def __post_init__(self) -> None:
        if self.margin < 0:
            raise ValueError(f"margin must be 0 or more, got {self.margin:g}")


@dataclass(frozen=True)
class Options:
    """A tree."""

    run: Path
    """Where."""
    head: Head = field(default_factory=Head)


def parsed(*argv: str) -> Options:
    return parse(Options, ["--run", "x", *argv], prog="cosface train")


def test_values_are_typed_and_the_last_one_wins() -> None:
    options = parsed(
        "--head.margin", "1", "--head.margin=2", "--head.flip", "False", "--head.size", "112", "96",
        "--head.files", "a", "b", "--head.batch_size", "4", "--head.loss", "softmax",
    )  # fmt: skip
    files = (Path("a"), Path("b"))
    assert options == Options(Path("x"), Head(2.0, False, (112, 96), files, "softmax", 4))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--head.margn", "3"], "unknown setting --head.margn; nearest: --head.margin"),
        (["--margin", "3"], "unknown setting --margin; nearest: --head.margin"),
        (["--zzz"], "unknown setting --zzz; --help lists the settings"),
        (["--head.margin", "a"], "--head.margin: expected a number, got 'a'"),
        (["--head.batch-size", "1.5"], "--head.batch-size: expected a whole number, got '1.5'"),
        (["--head.margin", "-1e-1"], "--head.margin must be 0 or more, got -0.1"),
        (["--head.loss", "cos"], "--head.loss: 'cos' is none of 'cosface', 'softmax'"),
        (["--head.flip", "no"], "--head.flip: 'no' is none of 'True', 'False'"),
        (["--head.margin"], "--head.margin needs 1 value"),
        (["--head.size", "112"], "--head.size: expected None or INT INT, got 112"),
        (["stray"], "unexpected 'stray'; `cosface train --help` lists the settings"),
    ],
)
def test_mistakes_are_one_sentence(argv: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        parsed(*argv)
    assert str(caught.value) == message
    assert capfd.readouterr() == ("", "")


def test_a_required_setting_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^--run must be given; `cosface train --help` explains it$"):
        parse(Options, [], prog="cosface train")


def test_help_prints_and_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parsed("--help")
    assert not stop.value.code
    assert "How far." in capsys.readouterr().out


def test_names() -> None:
    names = setting_names(Options)
    assert names[:2] == ["run", "head.margin"]
    assert nearest_name("optimm.lr", ["optim.lr", "head.loss"]) == "optim.lr"
    assert nearest_name("qqqqqq", names) is None
