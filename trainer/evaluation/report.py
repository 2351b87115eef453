"""Verification results as a table for the terminal, as JSON, and as a page with its pictures inside."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline.files.typed_json import parse
from trainer.errors import TrainerInputError
from trainer.evaluation.files import replacing
from trainer.evaluation.plots import plot_roc, plot_scores
from trainer.evaluation.verification import FAR_TARGETS, VerificationResult

if TYPE_CHECKING:
    from rich.table import Table

Results = Mapping[str, VerificationResult]

FOOTNOTE = (
    "Accuracy: mean ± deviation over the folds, each at the threshold found on the others; "
    "ten folds, fewer where a set has fewer pairs of a kind. "
    "TAR at FAR: – where the set has too few different pairs."
)

USUAL_FOLDS = 10

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --soft: #52606d; --line: #e4e7eb; --back: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --soft: #9aa5b1; --line: #3e4c59; --back: #1b232c; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back);
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.5rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { padding: .45rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 600; } th:first-child, td:first-child { text-align: left; }
img { width: 100%; height: auto; border-radius: 6px; background: #fff; }
p.note { color: var(--soft); font-size: .9rem; }
"""


def results_table(results: Results, title: str | None = None) -> Table:
    """A rich table, one row a set."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # Fits a terminal of 80 columns: short headings over several lines, numbers never cut.
    table = Table(
        title=None if title is None else Text(title),
        caption=FOOTNOTE,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for heading in _headings(results):
        words = heading.replace("TAR % at FAR ", "TAR %\nat FAR\n")
        table.add_column(
            words, justify="left" if heading == "set" else "right", overflow="fold", vertical="bottom"
        )
        table.columns[-1].no_wrap = heading != "set"
    for row in _rows(results):
        table.add_row(*map(Text, row))
    return table


def write_json(results: Results, file: Path, *, curve: bool = False) -> None:
    """Write ``{"set": {"accuracy": …, …}, …}``; with ``curve`` each ROC's corners too, for `read_json`."""
    plain = {name: result.to_json(curve=curve) for name, result in results.items()}
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(plain, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(file: Path) -> dict[str, VerificationResult]:
    """Read back what ``write_json(curve=True)`` wrote. Raises TrainerInputError naming the file."""
    try:
        plain = parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainerInputError(f"{file}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise TrainerInputError(f"{file}: is not JSON: {error}") from None
    if not isinstance(plain, dict):
        raise TrainerInputError(f"{file}: expected results by the name of their set")
    try:
        return {name: VerificationResult.from_json(value) for name, value in plain.items()}
    except TrainerInputError as error:
        raise TrainerInputError(f"{file}: {error}") from None


def write_report(
    results: Results, folder: Path, heading: str, *, note: str = "", beside: Results | None = None
) -> Path:
    """Write report.html (it needs no other file), report.json and the pictures; returns the page's path.

    note: a sentence about data and network, shown under the heading; beside: results to draw faintly in the
    same ROC, such as the untrained network's.
    Raises TrainerInputError when the folder cannot be written to.
    """
    beside = beside or {}
    plot_roc({**results, **beside}, folder / "roc.png", "Verification ROC", faint=tuple(beside))
    pictures = [("ROC", folder / "roc.png")]
    for name, result in results.items():
        picture = folder / f"scores-{re.sub(r'[^A-Za-z0-9._-]+', '_', name)}.png"
        if plot_scores(result, picture, f"Scores of {name}"):
            pictures.append((f"Scores of {name}", picture))
    write_json(results, folder / "report.json", curve=True)
    page = folder / "report.html"
    with replacing(page) as temporary:
        temporary.write_text(_page(heading, note, {**results, **beside}, pictures), encoding="utf-8")
    return page


def _page(heading: str, note: str, results: Results, pictures: list[tuple[str, Path]]) -> str:
    title = html.escape(heading)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in _headings(results))
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>\n"
        for row in _rows(results)
    )
    figures = "".join(
        f'<h2>{html.escape(name)}</h2>\n<img alt="{html.escape(name)}" '
        f'src="data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}">\n'
        for name, file in pictures
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n"
        f'<p class="note">{html.escape(note)}</p>\n'
        f'<div class="scroll"><table>\n<tr>{head}</tr>\n{body}</table></div>\n'
        f'<p class="note">{html.escape(FOOTNOTE)}</p>\n{figures}</body></html>\n'
    )


def _headings(results: Results) -> list[str]:
    """One more where a set's folds are not ten: it has too few pairs of a kind, or its list others."""
    folds = ["folds"] if _folds_are_told(results) else []
    rates = [f"TAR % at FAR {far}" for far in FAR_TARGETS]
    return ["set", "pairs", *folds, "accuracy %", "AUC", "EER %", *rates]


def _folds_are_told(results: Results) -> bool:
    return any(len(result.fold_accuracies) != USUAL_FOLDS for result in results.values())


def _rows(results: Results) -> list[list[str]]:
    folds_are_told = _folds_are_told(results)
    return [
        [
            name,
            f"{result.pairs:,}",
            *([str(len(result.fold_accuracies))] if folds_are_told else []),
            f"{100 * result.accuracy:.2f} ± {100 * result.accuracy_std:.2f}",
            f"{result.auc:.6f}",
            f"{100 * result.eer:.2f}",
            *("–" if tar is None else f"{100 * tar:.2f}" for tar in map(result.tar_at_far.get, FAR_TARGETS)),
        ]
        for name, result in results.items()
    ]
