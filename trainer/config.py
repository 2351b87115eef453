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

from data_pipeline.sources import is_made_up
from trainer.check import check
from trainer.command_line import parse, refuse_unknown, setting_names
from trainer.errors import SettingsError
from trainer.flags import with_values
from trainer.settings import Config

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
    refuse_unknown(rest, known)
    if file is None:
        return parse(Config, rest, prog=prog, description=DESCRIPTION)
    from_file = list(_as_arguments(_read(file), file))
    refuse_unknown(from_file, known, where=f" in {file}")
    try:
        from_file = with_values(Config, from_file, bare=False)
        return parse(Config, [*from_file, *rest], prog=prog, description=DESCRIPTION)
    except SettingsError as error:
        setting = str(error).partition(" ")[0].rstrip(":")
        stated = {word.partition("=")[0].replace("_", "-") for word in rest}
        if setting in from_file and setting not in stated:
            raise SettingsError(f"{file}: {error}") from None
        raise


def to_toml(config: Config) -> str:
    """The resolved settings, for `run.toml`; paths are absolute, what is unset is left out."""
    return tomli_w.dumps(_plain(config))


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
