"""What `pack` has done so far, on disk beside OUT, so that a killed one goes on where it was.

The work folder `.OUT.packing` holds the growing `set/train.rec`; `results`, one line for each file in their
order: the bytes of its record, or "-" and why it was left out; `committed.json`, how far both can be trusted;
`manifest.json`, what they were made of and how; and `lock`. Everything else of the set follows from the
results and is written at the end; then `set` is renamed to OUT.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from data_pipeline.errors import DatasetError
from data_pipeline.files.atomic import sync, write_file
from data_pipeline.files.growing import open_cut
from data_pipeline.files.lock import HeldByAnother, ProcessLock
from data_pipeline.files.output_folder import in_use, is_in_use

COMMIT_INTERVAL_S = 2.0


class PackWork:
    """The work folder of one OUT, held by one process.

    results: of each file that is done the bytes of its record, or -1 - (its reason's place in `reasons`).
    Raises DatasetError if OUT is in use, if another process is packing into it, or if an unfinished pack is
    there whose manifest is another one (and `fresh` does not say to drop it).
    """

    def __init__(self, out: Path, manifest: dict[str, Any], *, fresh: bool = False) -> None:
        self.out = out.resolve() if out.is_symlink() or out.name in ("", "..") else out
        self.folder = self.out.with_name(f".{self.out.name}.packing")
        self.set_folder = self.folder / "set"
        self.results = array("i")
        self._places: dict[str, int] = {}
        # Files done, bytes of `results`, bytes of the records: changed together, whatever interrupts.
        self._done = (0, 0, 0)
        self._manifest = manifest
        self._records: IO[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._committed = 0
        self._last_commit = time.monotonic()
        taken = _is_in_use(self.out)
        if taken and not self.folder.exists():
            raise in_use(out)
        self._lock = ProcessLock(self.folder / "lock")
        try:
            with self.writing():
                self._lock.acquire()
        except HeldByAnother as other:
            raise DatasetError(
                f"{out}: {other.holder} is packing into it; wait for it or name another folder"
            ) from None
        try:
            self._open(taken, fresh)
        except BaseException:
            self.close()
            raise

    def _open(self, taken: bool, fresh: bool) -> None:
        stored = self._stored_manifest(fresh)
        # Killed between the last rename and the end, OUT is whole and only this folder is left.
        self.is_whole = taken and stored == self._manifest and not self.set_folder.exists()
        if taken and not self.is_whole:
            raise in_use(self.out)
        if not taken and (stored is None or not self.set_folder.exists()):
            with self.writing():
                self._start()
        self._read_results()

    def _stored_manifest(self, fresh: bool) -> dict[str, Any] | None:
        """The manifest of the unfinished pack that is to be gone on with; None: there is none."""
        try:
            stored = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if stored == self._manifest:
            return None if fresh else self._manifest
        if fresh or not (self.folder / "committed.json").exists():
            return None
        raise DatasetError(
            f"{self.out}: an unfinished pack is there, made with {_differences(stored, self._manifest)}; "
            "give --fresh to start again, or what it was made with to go on"
        )

    def _start(self) -> None:
        self._clear()
        self.set_folder.mkdir()
        write_file(self.folder / "manifest.json", json.dumps(self._manifest, indent=1), durable=True)

    def _read_results(self) -> None:
        """Takes what was committed and cuts off what was not."""
        try:
            committed = json.loads((self.folder / "committed.json").read_text(encoding="utf-8"))
            files, log_bytes, record_bytes = (int(committed[key]) for key in ("files", "results", "records"))
            size = (self.out if self.is_whole else self.set_folder).joinpath("train.rec").stat().st_size
            with (self.folder / "results").open("rb") as log:
                for _ in range(files):
                    line = log.readline()
                    self._note(int(line) if line[:1] != b"-" else line[1:-1].decode())
                if log.tell() != log_bytes or size < record_bytes:
                    raise ValueError
        except (OSError, ValueError, KeyError, TypeError):
            # Nothing was committed, or by a disk that did not keep its word.
            files = log_bytes = record_bytes = 0
            del self.results[:]
            self._places.clear()
            if self.is_whole:
                raise in_use(self.out) from None
        self._done = files, log_bytes, record_bytes
        self._committed = files
        if self.is_whole:
            return
        with self.writing():
            self._log = open_cut(self.folder / "results", log_bytes)
            self._records = open_cut(self.set_folder / "train.rec", record_bytes)

    @property
    def position(self) -> int:
        """Number of files that are done."""
        return self._done[0]

    @property
    def reasons(self) -> list[str]:
        """The reasons that `results` speaks of."""
        return list(self._places)

    def add_record(self, record: bytes) -> None:
        """The next file's record; the first bytes of the file are `write_head`'s."""
        assert self._records is not None
        with self.writing():
            self._records.write(record)
            self._write_result(len(record), len(record))

    def leave_out(self, reason: str) -> None:
        """The next file has no record."""
        with self.writing():
            self._write_result(" ".join(reason.split()), 0)

    def write_head(self, record: bytes) -> None:
        """The file's first record, which no image file stands for."""
        assert self._records is not None
        with self.writing():
            self._records.seek(0)
            self._records.write(record)
            if not self.position:
                self._done = 0, 0, len(record)
            self._records.seek(0, os.SEEK_END)

    def write_tail(self, record: bytes) -> None:
        """A record behind the last file's."""
        assert self._records is not None
        with self.writing():
            self._records.write(record)

    def commit(self, *, now: bool = False) -> None:
        """Makes what is done so far outlive this process and the power; at most every two seconds."""
        if not now and time.monotonic() - self._last_commit < COMMIT_INTERVAL_S:
            return
        if self._records is None or self._log is None or not self.position:
            return
        done = self._done
        with self.writing():
            for file in (self._records, self._log):
                file.flush()
                os.fsync(file.fileno())
            state = dict(zip(("files", "results", "records"), done, strict=True))
            write_file(self.folder / "committed.json", json.dumps(state), durable=True)
        self._committed = done[0]
        self._last_commit = time.monotonic()

    def publish(self) -> None:
        """Gives the set its name and clears the work away."""
        if not self.is_whole:
            assert self._records is not None
            with self.writing():
                self._records.flush()
                for path in self.set_folder.iterdir():
                    sync(path)
                os.replace(self.set_folder, self.out)
                sync(self.out.parent)
        self.discard()

    def discard(self) -> None:
        """Throws the work away."""
        self._close_files()
        (self.folder / "committed.json").unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Lets go of the folder; without a commit in it, it goes too."""
        self._close_files()
        if self._lock.is_held:
            if not (self.folder / "committed.json").exists():
                # The lock goes last: whoever takes it next must find nothing that is still being removed.
                with suppress(OSError):
                    self._clear()
                shutil.rmtree(self.folder, ignore_errors=True)
            self._lock.release()

    def _clear(self) -> None:
        """Removes everything but the lock, what a killed process left half-written too."""
        for entry in list(self.folder.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name.partition(".")[0] != "lock":
                entry.unlink(missing_ok=True)

    def _close_files(self) -> None:
        for file in (self._records, self._log):
            if file is not None:
                # What a full disk did not take is written again by whoever goes on.
                with suppress(OSError):
                    file.close()
        self._records = self._log = None

    def _write_result(self, result: int | str, record_bytes: int) -> None:
        assert self._log is not None
        line = b"%d\n" % result if isinstance(result, int) else b"-%s\n" % result.encode()
        self._log.write(line)
        self._note(result)
        files, log_bytes, records = self._done
        self._done = files + 1, log_bytes + len(line), records + record_bytes

    def _note(self, result: int | str) -> None:
        if isinstance(result, str):
            result = -1 - self._places.setdefault(result, len(self._places))
        self.results.append(result)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Says of an OSError what is kept."""
        try:
            yield
        except OSError as error:
            kept = (
                f"; {self._committed} files are done and the same command goes on" if self._committed else ""
            )
            raise DatasetError(f"{self.out}: cannot be written: {error.strerror or error}{kept}") from None


def _is_in_use(out: Path) -> bool:
    try:
        return is_in_use(out)
    except OSError as error:
        raise DatasetError(f"{out}: cannot be read: {error.strerror}") from None


def _differences(stored: Any, wanted: dict[str, Any]) -> str:
    if not isinstance(stored, dict):
        return "other settings"
    different = [name for name in wanted if stored.get(name) != wanted[name]]
    shown = [
        f"{name} {_shown(stored.get(name))} (now {_shown(wanted[name])})"
        for name in different
        if name != "images"
    ]
    return ", ".join(shown) or "other images (some were added, removed or changed)"


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
