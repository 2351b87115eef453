"""Files and folders that appear whole or not at all: written beside their place, then renamed.

The temporary name cannot be guessed and is never opened if it is there already, so that in a folder which
others may write to nobody can lay a link in its way. What a killed process leaves is `.NAME.<16 hex>.tmp`.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

_LEFTOVER = re.compile(r"\.(.+)\.[0-9a-f]{16}\.tmp", re.DOTALL)


class Replacement:
    """A new content of `path`, written to `file`, which `commit` puts in its place and `discard` drops.

    durable: `commit` waits until the content and the name are on the disk. parents: the folder is made if it
    is not there. `file.name` is the temporary path.
    Raises OSError, also if `path` is a device or a pipe, which would be replaced, not written to.
    """

    def __init__(self, path: Path, *, durable: bool = False, parents: bool = True) -> None:
        self.path = Path(path)
        self._durable = durable
        _refuse_special(self.path)
        if parents:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self.temporary = _beside(self.path)
        # The mode is what the umask makes of it, as for any file: no step to widen it later.
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        self.file: IO[bytes] = open(  # noqa: SIM115 (closed by commit or discard)
            os.fspath(self.temporary), "w+b", opener=lambda name, _: os.open(name, flags, 0o666)
        )

    def commit(self) -> None:
        """Close the file and give it its name. Raises OSError, after which nothing is left of it."""
        try:
            self.file.close()
            if self._durable:
                sync(self.temporary)
            os.replace(self.temporary, self.path)
        except BaseException:
            self.discard()
            raise
        if self._durable:
            sync(self.path.parent)

    def discard(self) -> None:
        """Close the file and remove it; what was at `path` stays."""
        try:
            self.file.close()
        except OSError:
            pass  # a full disk did not take the rest, which goes anyway
        finally:
            self.temporary.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.commit()
        else:
            self.discard()


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[IO[bytes]]:
    """A file, open for writing bytes, that takes `path`'s place when the block ends well; else it is removed.

    Who can only write to a path writes to `Path(file.name)`. Raises OSError; see `Replacement`.
    """
    with Replacement(path, durable=durable) as new:
        yield new.file


def write_file(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Put a file in place of another, whole or not at all; text as UTF-8. Raises OSError."""
    with replacing(path, durable=durable) as file:
        file.write(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)


class FolderReplacement:
    """A new folder, filled under the name `temporary`, which `commit` renames to `path`.

    At that moment `path` must not be there or be an empty folder. The parents are made. Raises OSError.
    """

    def __init__(self, path: Path, *, durable: bool = False) -> None:
        self.path = Path(path)
        self._durable = durable
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.temporary = _beside(self.path)
        self.temporary.mkdir()

    def commit(self) -> None:
        """Give the folder its name. Raises OSError, after which nothing is left of it."""
        try:
            if self._durable:
                for folder, _, names in os.walk(self.temporary):
                    for name in names:
                        sync(Path(folder, name))
                    sync(Path(folder))
            os.replace(self.temporary, self.path)
        except BaseException:
            self.discard()
            raise
        if self._durable:
            sync(self.path.parent)

    def discard(self) -> None:
        """Remove the folder and what is in it."""
        shutil.rmtree(self.temporary, ignore_errors=True)


@contextmanager
def replacing_folder(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A folder to fill that becomes `path` when the block ends well; else it is removed. Raises OSError."""
    new = FolderReplacement(path, durable=durable)
    try:
        yield new.temporary
    except BaseException:
        new.discard()
        raise
    new.commit()


def leftovers(folder: Path, name: str | None = None) -> list[Path]:
    """What killed processes left in `folder` on the way to `name`, or to any name; no order."""
    found = ((entry, _LEFTOVER.fullmatch(entry.name)) for entry in folder.iterdir())
    return [entry for entry, match in found if match and name in (None, match[1])]


def sync(path: Path) -> None:
    """Wait until a file, or a folder's names, are on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def _refuse_special(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # not there, or in no folder yet: what is wrong shows when the file is made
    if not stat.S_ISREG(mode):
        code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        what = os.strerror(code) if code == errno.EISDIR else "is no ordinary file"
        raise OSError(code, what, str(path))
