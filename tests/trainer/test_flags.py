"""Booleans of every command: bare, as --no-…, with a value, in TOML."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pytest
from tyro.conf import Positional

from data_pipeline.commands import InspectOptions, PackOptions, PairsOptions
from data_pipeline.rendered.commands import RenderOptions
from launch.bench.head import HeadBenchOptions
from launch.bench.loader import LoaderBenchOptions
from launch.demo import DemoOptions
from launch.job import LocalOptions
from partial_fc.commands import AdviseOptions
from trainer.command_line import parse
from trainer.commands_evaluate import EvaluateOptions
from trainer.config import load_config
from trainer.errors import SettingsError
from trainer.flags import boolean_settings
from trainer.settings import Config

BASE = ["--run", "/r", "--data.train", "/d", "--training.steps", "5"]
POSITIONAL = {
    PackOptions: ["in", "out"],
    PairsOptions: ["a", "b", "c"],
    InspectOptions: ["x"],
    RenderOptions: ["x"],
}
KINDS = [*POSITIONAL, HeadBenchOptions, LoaderBenchOptions, DemoOptions, LocalOptions, AdviseOptions]
KINDS += [EvaluateOptions]
FLAGS = [(kind, name) for kind in KINDS for name in boolean_settings(kind)]


def value(options: object, name: str) -> object:
    for part in name.split("."):
        options = getattr(options, part.replace("-", "_"))
    return options


def test_the_commands_have_these() -> None:
    names = {(kind.__name__, name) for kind, name in FLAGS}
    assert {("PackOptions", "fresh"), ("PackOptions", "reencode"), ("InspectOptions", "near")} <= names
    assert {"data.augment.flip", "auxiliary.normalise"} <= set(boolean_settings(Config))


@pytest.mark.parametrize(("kind", "name"), FLAGS)
def test_every_commands_booleans(kind: type, name: str) -> None:
    words = POSITIONAL.get(kind, [])
    spellings = {
        True: ([f"--{name}"], [f"--{name}", "True"], [f"--{name}=true"], [f"--no-{name}", f"--{name}"]),
        False: ([f"--no-{name}"], [f"--{name}", "False"], [f"--{name}=false"], [f"--{name}", f"--no-{name}"]),
    }
    for wanted, ways in spellings.items():
        for way in ways:
            for argv in ([*way, *words], [*words, *way]):
                assert value(parse(kind, argv, prog="cosface"), name) is wanted, argv


@pytest.mark.parametrize("name", boolean_settings(Config))
def test_every_boolean_of_a_run(tmp_path: Path, name: str) -> None:
    section, dot, last = name.rpartition(".")
    before = section + dot
    needs = ["--auxiliary.loss", "center"] if section == "auxiliary" else []

    def found(*argv: str) -> object:
        return value(load_config([*BASE, *needs, *argv]), name)

    assert found(f"--{name}") is found(f"--{name}", "TRUE") is found(f"--{name}=True") is True
    assert found(f"--{before}no-{last}") is found(f"--no-{name}") is found(f"--{name}", "false") is False
    file, table = tmp_path / "recipe.toml", f"[{section}]\n" if section else ""
    for text, wanted in (("true", True), ("false", False)):
        file.write_text(f"{table}{last} = {text}\n")
        assert found("--config", str(file)) is wanted
        assert found("--config", str(file), f"--{name}", str(not wanted)) is not wanted
    file.write_text(f"{table}no-{last} = true\n")
    with pytest.raises(SettingsError, match=f"unknown setting --{before}no-{last} in .*; nearest: --{name}"):
        found("--config", str(file))
    file.write_text(f"{table}{last} = []\n")
    with pytest.raises(SettingsError, match=f"{file}: --{name}: '' is none of .*'True', 'False'"):
        found("--config", str(file))


@dataclass(frozen=True)
class Section:
    """A section."""

    fast: bool = True
    either: bool | None = None


@dataclass(frozen=True)
class Words:
    """With words that have no name."""

    folder: Positional[Path]
    section: Section = field(default_factory=Section)
    mark: Annotated[bool, "a mark"] = False


@pytest.mark.parametrize(
    ("kind", "argv", "complaint"),
    [
        (Words, ["x", "--section.fast=1"], "--section.fast: '1' is none of 'True', 'False'"),
        (Words, ["x", "--section.either=1"], "--section.either: '1' is none of 'None', 'True', 'False'"),
        (Words, ["x", "--no-mark", "True"], "--no-mark takes no value, got 'True'"),
        (Words, ["x", "--section.no-fast=no"], "--section.no-fast takes no value, got 'no'"),
        (Words, ["--mark", "yes", "x"], "unexpected 'x'; `cosface --help` lists the settings"),
        (DemoOptions, ["--no-run"], "unknown setting --no-run; nearest: --run"),
        (Section, ["--fast", "1"], "--fast: '1' is none of 'True', 'False'"),
    ],
)
def test_what_is_refused(kind: type, argv: list[str], complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(kind, argv, prog="cosface")
    assert str(caught.value) == complaint


def test_a_name_without_a_value_does_not_take_a_folder() -> None:
    options = parse(Words, ["--mark", "x", "--section.either", "None", "--section.either"], prog="cosface")
    assert options == Words(Path("x"), Section(True, True), True)
    assert parse(Words, ["--mark", "--", "--mark"], prog="cosface") == Words(Path("--mark"), mark=True)


def test_help_shows_both_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(PackOptions, ["--help"], prog="cosface pack")
    assert "--fresh, --no-fresh" in capsys.readouterr().out
    assert all(dataclasses.is_dataclass(kind) for kind in KINDS)
