"""A run's settings from a TOML file and the command line, and back into `run.toml`.

    cosface train --config recipe.toml --run runs/1 --optim.lr 0.05

The file's settings are put before the command line's, and the last value of a setting counts; so both go
through the same parser and are checked by the same words.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from data_pipeline.sets.open import is_made_up
from trainer.check import check
from trainer.command_line import MissingSettings, parse, refuse_unknown, setting_names
from trainer.errors import SettingsError
from trainer.flags import with_values
from trainer.loss_options import refuse_loss_options
from trainer.run_directory import is_used
from trainer.settings import Config
from trainer.tyro_messages import must_be_given

__all__ = ["Config", "check", "load_config", "to_toml"]

DESCRIPTION = (
    "Train a backbone and a sharded classifier. --config FILE.toml gives settings as [section] key = value, "
    "those of the command line come after it, and of a setting given twice the last value counts."
)


def load_config(argv: Sequence[str], prog: str = "cosface train") -> Config:
    """The settings that `argv` states. Raises SettingsError, one sentence for whatever is wrong with them."""
    file, rest = _split_config(list(argv))
    known = setting_names(Config)
    rest = with_values(Config, rest)
    refuse_loss_options(rest)
    refuse_unknown(rest, known)
    from_file: list[str] = []
    if file is not None:
        from_file = list(_as_arguments(_without_own_folder(_read(file), file), file))
        refuse_loss_options(from_file, where=f" in {file}")
        refuse_unknown(from_file, known, where=f" in {file}")
    stated = {word.partition("=")[0].replace("_", "-") for word in rest}
    try:
        from_file = with_values(Config, from_file, bare=False)
        return parse(Config, [*from_file, *rest], prog=prog, description=DESCRIPTION)
    except MissingSettings as error:
        raise SettingsError(_missing(error, stated | set(from_file), file, prog)) from None
    except SettingsError as error:
        setting = str(error).partition(" ")[0].rstrip(":")
        if setting in from_file and setting not in stated:
            raise SettingsError(f"{file}: {error}") from None
        raise


def to_toml(config: Config) -> str:
    """The resolved settings, for `run.toml`; paths are absolute, what is unset is left out.

    The run's folder stands in a comment alone: `--config run.toml` is not to go on in it unasked. So does the
    permission to go on with other data, which was given once.
    """
    settings = _plain(config)
    folder = settings.pop("run")
    first = f"# All settings but the folder, {folder!r}: with another --run they repeat the run.\n"
    if settings.pop("resume-with-other-data"):
        first += "# Gone on with other data than before, as --resume-with-other-data allowed.\n"
    return first + tomli_w.dumps(settings)


def _missing(error: MissingSettings, stated: set[str], file: Path | None, prog: str) -> str:
    """The sentence for all that is missing: the length of the run too, which has two names."""
    names = list(error.names)
    if not stated & {"--training.steps", "--training.epochs"}:
        names.append("one of --training.steps and --training.epochs")
    told = must_be_given(names, prog)
    folders = [] if file is None else [folder for folder in file.parents[:2] if is_used(folder)]
    if "--run" not in names or not folders:
        return told
    return (
        f"{told}; {file} is of a run that has its folder: --run {folders[0]} goes on there, "
        "another --run repeats it from the start"
    )


def _without_own_folder(table: dict[str, Any], file: Path) -> dict[str, Any]:
    """A run.toml as it was once written names the folder that it lies in; that does not count."""
    run = table.get("run")
    if isinstance(run, str) and file.resolve().is_relative_to(Path(run).resolve()):
        return {name: value for name, value in table.items() if name != "run"}
    return table


def _split_config(argv: list[str]) -> tuple[Path | None, list[str]]:
    file: Path | None = None
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--config":
            value = next(words, None)
            if value is None:
                raise SettingsError("--config needs 1 value")
            file = Path(value)
        elif word.startswith("--config="):
            file = Path(word.partition("=")[2])
        else:
            rest.append(word)
    return file, rest


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise SettingsError(f"--config {file}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"--config {file}: is no TOML: {error}") from None


def _as_arguments(table: Mapping[str, Any], file: Path, prefix: str = "") -> Iterator[str]:
    """The words that would state a TOML table's settings on the command line."""
    for key, value in table.items():
        name = prefix + key.replace("_", "-")
        if isinstance(value, Mapping):
            yield from _as_arguments(value, file, name + ".")
            continue
        values = value if isinstance(value, list) else [value]
        for item in values:
            if not isinstance(item, bool | int | float | str) or str(item).startswith("--"):
                raise SettingsError(f"{file}: {name} must be numbers, booleans or plain text, got {item!r}")
        yield f"--{name}"
        yield from map(str, values)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        items = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {name.replace("_", "-"): _plain(item) for name, item in items if item is not None}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value if is_made_up(value) else value.absolute()) if isinstance(value, Path) else value
