"""Every loss and every option that it has or has not: what is refused, and what `cosface losses` lists."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from launch import cli
from partial_fc import MARGINS
from partial_fc.errors import HeadInputError
from partial_fc.margins import Option, make_margin, options_of
from trainer.commands_losses import described
from trainer.config import load_config
from trainer.errors import SettingsError, TrainerInputError
from trainer.loss_options import SETTINGS, loss_options, make_loss
from trainer.settings import HeadConfig

BASE = ["--run", "/r", "--data.train", "/d", "--training.steps", "5"]
ALL = sorted({name for kind in MARGINS.values() for name in options_of(kind)})
HAS = {loss: set(loss_options(loss)) for loss in MARGINS}
VALUES: dict[str, Any] = {"scale": 30.0, "margin": 0.4, "centres_per_class": 2, "filter_above": 0.5}


def another(option: Option) -> Any:
    """A value in an option's range that is not its default."""
    if option.one_of:
        return next(value for value in option.one_of if value != option.default)
    if option.type is bool:
        return not option.default
    if option.name in VALUES:
        return VALUES[option.name]
    assert isinstance(option.default, float)
    return option.default * 1.01


def head(loss: str, name: str, value: Any) -> HeadConfig:
    words = ["--head.loss", loss]
    words += (
        [f"--head.{SETTINGS[name]}", str(value)]
        if name in SETTINGS
        else ["--head.options", f"{name}={value}"]
    )
    return load_config([*BASE, *words]).head


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("loss", MARGINS)
def test_an_option_reaches_the_loss_or_is_refused(loss: str, name: str) -> None:
    if name in HAS[loss]:
        value = another(loss_options(loss)[name])
        assert make_loss(head(loss, name, value)) == make_margin(loss, **{name: value})
        return
    some = next(options_of(kind)[name] for kind in MARGINS.values() if name in options_of(kind))
    setting = f"--head.{SETTINGS[name]}: " if name in SETTINGS else "--head.options: "
    with pytest.raises(TrainerInputError) as caught:
        make_loss(head(loss, name, another(some)))
    assert str(caught.value).startswith(setting)
    assert loss in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_losses_have_these() -> None:
    assert {loss for loss in MARGINS if "scale" not in HAS[loss]} == {"softmax", "sphereface", "lsoftmax"}
    without = {"softmax", "normalizedsoftmax", "combinedmargin", "magface"}
    assert {loss for loss in MARGINS if "margin" not in HAS[loss]} == without
    assert HAS["combinedmargin"] == {"scale", "centres_per_class", "filter_above", "m1", "m2", "m3"}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ["combinedmargin", "--head.margin", "0.4"],
            "--head.margin: combinedmargin has none of that name; its margins are "
            "--head.options m1=… m2=… m3=…",
        ),
        (
            ["magface", "--head.margin", "0.4"],
            "--head.margin: magface has none of that name; its margins are "
            "--head.options margin_low=… margin_high=…",
        ),
        (["softmax", "--head.scale", "30"], "--head.scale: softmax has none; `cosface losses` lists"),
        (["softmax", "--head.margin", "0.5"], "--head.margin: softmax has none; `cosface losses` lists"),
        (["cosface", "--head.margin", "-1"], "--head.margin must be at least 0, got -1"),
        (["arcface", "--head.margin", "4"], "--head.margin must be at least 0 and below π, got 4.0 for"),
        (
            ["magface", "--head.options", "margin_high=0.1"],
            "--head.options: margin_high must be at least margin_low = 0.45 and below π, got 0.1",
        ),
        (["cosface", "--head.m2", "0.3"], "unknown setting --head.m2; it is an option of combinedmargin: "),
        (
            ["sphereface", "--head.lambda-least=1"],
            "unknown setting --head.lambda_least; it is an option of sphereface, spherefacenormfea, lsoftm",
        ),
        (
            ["none", "--auxiliary.loss", "center", "--head.scale", "30"],
            "--head.scale must be left at None: --head.loss none has no class centres",
        ),
        (
            ["none", "--auxiliary.loss", "center", "--head.options", "m1=1"],
            "--head.options must be left out: --head.loss none has no class centres",
        ),
        (
            ["none", "--auxiliary.loss", "center", "--head.sample-rate", "0.1"],
            "--head.sample-rate must be left at 1.0: --head.loss none has no class centres",
        ),
    ],
)  # fmt: skip
def test_the_line_names_what_is_meant(words: list[str], complaint: str) -> None:
    with pytest.raises((SettingsError, TrainerInputError)) as caught:
        make_loss(load_config([*BASE, "--head.loss", *words]).head)
    assert str(caught.value).startswith(complaint)


def test_also_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text("[head]\nm2 = 0.3\n")
    with pytest.raises(
        SettingsError, match=f"unknown setting --head.m2 in {file}; it is an option of combined"
    ):
        load_config([*BASE, "--config", str(file)])


@pytest.mark.parametrize("loss", MARGINS)
def test_the_list_says_what_is_accepted(loss: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Ranges in words are tried at their ends, from both sides."""
    assert cli.main(["losses", loss]) == 0
    listed = capsys.readouterr().out
    assert listed == described(loss) + "\n"
    for name, option in loss_options(loss).items():
        given = f"--head.{SETTINGS[name]} " if name in SETTINGS else f"--head.options {name}="
        (line,) = (line for line in listed.splitlines() if given in line)
        assert option.range() in line
        assert option.meaning in listed
        shown = "off" if option.default is None else str(option.default)
        assert line.endswith(f"{shown} by default")
        for value, holds in ends(option):
            accepted = True
            try:
                # margin_high must not be in the way of margin_low's own end.
                high = {"margin_high": math.nextafter(math.pi, 0)} if name == "margin_low" else {}
                make_margin(loss, **{name: value} | high)
            except HeadInputError:
                accepted = False
            assert accepted == holds, (name, value, option.range())
    absent = [f"--head.{setting}" for name, setting in SETTINGS.items() if name not in HAS[loss]]
    assert all(f"{setting} " not in listed.replace(f"has no {', '.join(absent)}", "") for setting in absent)
    assert (f"{loss} has no {', '.join(absent)}" in listed) == bool(absent)


def ends(option: Option) -> list[tuple[Any, bool]]:
    """Values at and beyond the ends that the words of the range state, and whether they are in it."""
    words, step = option.range(), 1 if option.type is int else 1e-9
    if option.one_of:
        return [(value, True) for value in option.one_of] + [("", False), (math.nan, False), (True, False)]
    if option.type is bool:
        return [(True, True), (False, True), (1, False), ("True", False), (None, True)]
    found: list[tuple[Any, bool]] = [(math.nan, False), (math.inf, False), ("1", False), (True, False)]
    for how, side, within in (
        ("at least ", -1, True),
        ("above ", 1, False),
        ("at most ", 1, True),
        ("below ", -1, False),
    ):
        if how in words:
            text = words.partition(how)[2].split()[0]
            own = {"margin_low": 0.45, "norm_low": 10.0, "π": math.pi, "π/2": math.pi / 2}
            end = own[text] if text in own else type(step)(text)
            beyond = end + side * step
            found += [(end, within), (beyond, not within)]
    return found


def test_all_losses_and_the_auxiliary_ones_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["losses"]) == 0
    listed = capsys.readouterr().out
    assert all(described(loss) in listed for loss in MARGINS)
    assert "\n  center       --auxiliary.weight --auxiliary.rate --auxiliary.normalise\n" in listed
    assert cli.main(["losses", "arcfac"]) == 2
    assert capsys.readouterr().err == "cosface: unknown loss 'arcfac': did you mean arcface?\n"
