"""Every message of tyro that is translated, from a run of the tyro that is installed; see setup.cfg's pin."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro
from tyro.conf import Positional, arg

from trainer.tyro_messages import RULES, one_line, read


@dataclass(frozen=True)
class Head:
    """A section."""

    margin: float = 0.35
    """How far, with so many words of help that the box of the message has several lines of it in any case."""
    batch_size: int = 3
    size: tuple[int, int] | None = None
    scale: float | None = None
    threads: int | None = None
    pair: tuple[int, int] = (1, 1)
    points: tuple[float, ...] = ()
    loss: Literal["cosface", "softmax"] = "cosface"
    only: Literal["ddp"] = "ddp"

    def __post_init__(self) -> None:
        if self.margin < 0:
            raise ValueError(f"margin must be 0 or more, got {self.margin:g}")
        if self.pair[0] > self.pair[1]:
            raise ValueError("near needs the pixels: choose one")


@dataclass(frozen=True)
class Options:
    """A tree; the first two settings are words without a name."""

    images: Annotated[Positional[Path], arg(metavar="IMAGES")]
    """A folder."""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    run: Path
    """Where, which is said at such length that the help goes over the line's end: the folder of the run."""
    seed: int
    head: Head = field(default_factory=Head)
    workers: int = 0

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"workers must be 0 or more, got {self.workers}")


GIVEN = ["in", "out", "--run", "x", "--seed", "0"]
CASES = [
    ([*GIVEN, "--head.margin", "a"], "--head.margin: expected a number, got 'a'"),
    ([*GIVEN, "--head.batch-size", "1.5"], "--head.batch-size: expected a whole number, got '1.5'"),
    ([*GIVEN, "--head.size", "112"], "--head.size: expected None or INT INT, got 112"),
    ([*GIVEN, "--head.scale", "x"], "--head.scale: expected a number, got 'x'"),
    ([*GIVEN, "--head.threads", "1.5"], "--head.threads: expected a whole number, got '1.5'"),
    ([*GIVEN, "--head.pair", "1", "b"], "--head.pair: expected INT INT, got 1 b"),
    ([*GIVEN, "--head.points", "1", "x"], "--head.points: expected FLOAT …, got 1 x"),
    ([*GIVEN, "--head.margin", "-1e-1"], "--head.margin must be 0 or more, got -0.1"),
    ([*GIVEN, "--workers", "-1"], "--workers must be 0 or more, got -1"),
    ([*GIVEN, "--head.pair", "2", "1"], "near needs the pixels: choose one"),
    ([*GIVEN, "--head.loss", "cos"], "--head.loss: 'cos' is none of 'cosface', 'softmax'"),
    ([*GIVEN, "--head.only", "cos"], "--head.only: 'cos' is none of 'ddp'"),
    ([*GIVEN, "--head.margin"], "--head.margin needs 1 value"),
    ([*GIVEN, "--head.pair", "1"], "--head.pair needs 2 values"),
    (GIVEN[:4], "--seed must be given; `cosface pack --help` explains it"),
    (GIVEN[:2], "--run and --seed must be given; `cosface pack --help` explains them"),
    ([], "IMAGES, OUT, --run and --seed must be given; `cosface pack --help` explains them"),
]


def box(argv: list[str]) -> str:
    """What tyro prints."""
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed), pytest.raises(SystemExit) as stop:
        tyro.cli(Options, args=argv, prog="cosface pack", return_unknown_args=True)
    assert stop.value.code == 2
    return printed.getvalue()


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize(("argv", "said"), CASES)
def test_a_message_becomes_this_sentence(
    argv: list[str], said: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert one_line(box(argv), "cosface pack") == said


@pytest.mark.parametrize(("argv", "said"), CASES)
def test_also_where_boxes_are_drawn_in_ascii(argv: list[str], said: str) -> None:
    drawn = box(argv)
    rows = drawn.splitlines()
    title, *inside = (row.replace("─", "-").strip("╭╮╰╯│ ") for row in rows[:1])
    plain = [f" {title.strip('- ')} ", f" {'-' * 30} ", *inside]
    plain += [f" {row.strip('│').replace('─', '-')}" for row in rows[1:-1]]
    assert one_line("\n".join(plain), "cosface pack") == said


def test_no_rule_is_without_a_run() -> None:
    texts = [read(box(argv)) for argv, _ in CASES]
    met = set()
    for message in texts:
        if not message.missing:
            met.add(next(rule for rule in RULES if rule.pattern.match(message.text)))
    assert met == set(RULES)
    assert any(message.missing for message in texts)


def test_the_version_is_the_one_that_was_read() -> None:
    wanted = [line for line in metadata.requires("cosface") or [] if line.startswith("tyro")]
    assert wanted in (["tyro<1.1,>=1.0"], ["tyro>=1.0,<1.1"], ["tyro>=0.9"])
    assert metadata.version("tyro").startswith("1.0.")
