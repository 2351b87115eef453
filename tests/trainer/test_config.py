from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from trainer.config import load_config, to_toml
from trainer.errors import SettingsError
from trainer.recipe import settled

BASE = ["--run", "/r", "--data.train", "/d", "--training.steps", "5"]


def test_defaults_are_the_papers_but_for_the_backbone() -> None:
    config = load_config(BASE)
    assert (config.head.loss, config.head.margin, config.head.scale) == ("cosface", None, None)
    assert (config.optim.lr, config.optim.momentum, config.optim.weight_decay) == (None, 0.9, 5e-4)
    assert settled(config.optim, 512, 28_000) == replace(config.optim, lr=0.1, warmup_steps=1000)
    assert (config.training.clip_norm, config.model.backbone) == (5.0, "iresnet18")
    assert config.data.augment.flip


def test_command_line_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(
        'run = "/r"\n[data]\ntrain = "/d"\nimage-size = [112, 96]\n'
        "[data.augment]\nflip = false\nrotation = 10\n"
        "[optim]\nlr = 0.2\nmilestones = [10, 20]\n[training]\nsteps = 5\n[evaluation]\nverification = []\n"
    )
    config = load_config(["--config", str(file), "--optim.lr", "0.3", "--optim.lr", "0.4"])
    assert config.data.image_size == (112, 96)
    assert (config.data.augment.flip, config.data.augment.rotation) == (False, 10.0)
    assert config.optim.milestones == (10, 20)
    assert config.optim.lr == 0.4
    assert load_config([f"--config={file}"]).optim.lr == 0.2


def test_run_toml_gives_the_same_settings_again(tmp_path: Path) -> None:
    config = load_config(
        [
            *(*BASE, "--data.image-size", "64", "48", "--evaluation.verification", "/a.bin", "/b.bin"),
            *("--auxiliary.loss", "center", "--auxiliary.rate", "0.2", "--auxiliary.normalise", "True"),
        ]
    )
    file = tmp_path / "run.toml"
    file.write_text(to_toml(config))
    assert load_config(["--config", str(file), "--run", "/r"]) == config


def test_a_permission_that_was_given_once_is_told_and_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(to_toml(load_config([*BASE, "--resume-with-other-data"])))
    assert "--resume-with-other-data" in file.read_text().splitlines()[1]
    assert load_config(["--config", str(file), "--run", "/r"]) == load_config(BASE)


def test_run_toml_does_not_go_on_in_its_own_folder_unasked(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    text = to_toml(load_config(["--run", str(tmp_path), *BASE[2:]]))
    assert str(tmp_path) in text.splitlines()[0]
    for content in (text, f'run = "{tmp_path}"\n{text}'):  # as it is written, and as it once was
        file.write_text(content)
        with pytest.raises(SettingsError) as caught:
            load_config(["--config", str(file)])
        assert str(caught.value) == (
            f"--run must be given; `cosface train --help` explains it; {file} is of a run that has its "
            f"folder: --run {tmp_path} goes on there, another --run repeats it from the start"
        )
        assert load_config(["--config", str(file), "--run", str(tmp_path)]).run == tmp_path
        assert load_config(["--config", str(file), "--run=new"]).run == Path("new")
    start = tmp_path / "starts" / "0001-step-00000000.toml"
    start.parent.mkdir()
    start.write_text(text)
    with pytest.raises(SettingsError, match=f"; {start} is of a run that .*: --run {tmp_path} goes"):
        load_config(["--config", str(start)])


@pytest.mark.parametrize(
    ("argv", "missing"),
    [
        ([], "--run, --data.train and one of --training.steps and --training.epochs must be given; "),
        (BASE[:2], "--data.train and one of --training.steps and --training.epochs must be given; "),
        (BASE[2:], "--run must be given; "),
        (BASE[:4], "one of --training.steps and --training.epochs must be given"),
    ],
)
def test_all_that_is_missing_is_named_at_once(tmp_path: Path, argv: list[str], missing: str) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text("[optim]\nlr = 0.05\n")
    for more in ([], ["--config", str(file)]):
        with pytest.raises(SettingsError) as caught:
            load_config([*argv, *more])
        assert str(caught.value).startswith(missing)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[head]\nmargn = 1\n", "unknown setting --head.margn in {file}; nearest: --head.margin"),
        ("[optim]\nlr = -1\n", "{file}: --optim.lr must be above 0, got -1"),
        ("[optim]\nlr = 'x'\n", "{file}: --optim.lr: expected a number, got 'x'"),
        ("[optim\n", "--config {file}: is no TOML: "),
        ("[optim]\nlr = 1979-05-27\n", "{file}: optim.lr must be numbers, booleans or plain text"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_config(["--config", str(file), *BASE])
    assert str(caught.value).startswith(complaint.format(file=file))


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--training.epochs", "2"], "one of --training.steps and --training.epochs must be given, not both"),
        (["--training.steps", "None"], "one of --training.steps and --training.epochs must be given"),
        (["--training.steps", "0"], "--training.steps must be 1 or more, got 0"),
        (["--data.batch-size", "0"], "--data.batch-size must be 1 or more, got 0"),
        (["--data.augment.flip", "1"], "--data.augment.flip: '1' is none of 'True', 'False'"),
        (["--data.augment.erase", "2"], "--data.augment.erase must be between 0 and 1, got 2"),
        (
            ["--model.backbone", "sphereface6"],
            "--model.backbone must be one that is known, got 'sphereface6'",
        ),
        (["--head.loss", "arc"], "--head.loss: 'arc' is none of 'cosface', 'arcface', "),
        (["--head.scale", "nan"], "--head.scale must be above 0, got nan"),
        (["--head.loss", "none"], "one of --head.loss and --auxiliary.loss must be other than none"),
        (["--auxiliary.loss", "centre"], "--auxiliary.loss: 'centre' is none of 'none', 'contrastive', "),
        (["--auxiliary.weight", "1"], "--auxiliary.weight must be left out: --auxiliary.loss none has none"),
        (
            ["--auxiliary.loss", "center", "--auxiliary.mining", "hard"],
            "--auxiliary.mining must be left out: --auxiliary.loss center has none",
        ),
        (
            ["--auxiliary.loss", "triplet", "--auxiliary.positive-margin", "0.1"],
            "--auxiliary.positive-margin must be left out: --auxiliary.loss triplet has none",
        ),
        (
            ["--auxiliary.loss", "contrastive", "--auxiliary.positive-margin", "1"],
            "--auxiliary.positive-margin must be at least 0 and below margin (1), got 1",
        ),
        (
            ["--auxiliary.loss", "center", "--auxiliary.rate", "2"],
            "--auxiliary.rate must be above 0 and at most 1, got 2",
        ),
        (
            ["--auxiliary.loss", "center", "--auxiliary.weight", "0"],
            "--auxiliary.weight must be above 0, got 0",
        ),
        (["--optim.final-lr", "1"], "--optim.final-lr must be between 0 and lr (0.1), got 1"),
        (["--checkpoint.keep", "0"], "--checkpoint.keep must be 1 or more, got 0"),
        (["--engine", "deepspeed"], "--engine: 'deepspeed' is none of 'ddp'"),
        (["--config", "/no/such.toml"], "--config /no/such.toml: cannot be read: No such file or directory"),
        (["--config"], "--config needs 1 value"),
    ],
)
def test_ranges(more: list[str], complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_config([*BASE, *more])
    assert str(caught.value).startswith(complaint)
    assert "\n" not in str(caught.value)


def test_help_explains_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        load_config(["--help"])
    assert not stop.value.code
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--head.margin" in text
    assert "m, in the loss's own unit" in text
    assert "--config FILE.toml" in text
