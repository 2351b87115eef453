"""The names of a packed set's identities: `identities.csv` beside its records, written by `cosface pack`."""

from __future__ import annotations

import csv
from pathlib import Path

IDENTITIES_FILE = "identities.csv"


def read_identities(folder: Path) -> dict[int, str] | None:
    """Each class's name; None if the folder has no such file or it cannot be understood.

    The file is a note beside the set, which can be trained on without it, so nothing is raised. Bytes that
    are no UTF-8 come as lone surrogates, as in file names (`os.fsencode` gives them back).
    """
    try:
        with (folder / IDENTITIES_FILE).open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = list(csv.reader(file))[1:]
        names = {int(row[0]): row[1] for row in rows if row}
    except (OSError, ValueError, IndexError, csv.Error):
        return None
    return names if len(names) == sum(map(bool, rows)) else None
