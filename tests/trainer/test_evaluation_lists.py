"""`cosface evaluate --pairs` reads whatever `cosface pairs` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_pipeline.errors import PairSetError
from data_pipeline.pairs.reading import read_list
from tests.data_pipeline.pairs.handed_out import FACES, FORMS, PEOPLE, expected, labelled, lfw, path, table
from trainer.errors import TrainerInputError
from trainer.evaluation.image_rows import ImageRows
from trainer.evaluation.lfw import evaluate_embeddings

ROWS = [path(name, number) for name in PEOPLE for number in range(1, FACES + 1)]


def _evaluate(
    tmp_path: Path, text: str, rows: list[str] = ROWS, encoding: str = "utf-8"
) -> dict[str, object]:
    random = np.random.default_rng(0)
    people = {row: centre for row in ROWS for centre in [row.split("/")[0]]}
    centres = {name: random.normal(size=8) for name in sorted(set(people.values()))}
    values = np.stack([centres[people[row]] + 0.4 * random.normal(size=8) for row in ROWS])
    np.save(tmp_path / "e.npy", values)
    (tmp_path / "paths.txt").write_bytes("\n".join([*rows, "", ""]).encode(encoding))
    (tmp_path / "pairs.txt").write_bytes(text.encode(encoding))
    return evaluate_embeddings(tmp_path / "e.npy", tmp_path / "paths.txt", tmp_path / "pairs.txt").to_json()


@pytest.mark.parametrize("form", FORMS)
def test_embeddings_are_evaluated_on_lists_in_every_form(tmp_path: Path, form: str) -> None:
    text, folds = FORMS[form]
    wanted, found = _evaluate(tmp_path, lfw()), _evaluate(tmp_path, text)
    assert (found["same_pairs"], found["different_pairs"]) == (10, 10)
    assert found["folds"] == (2 if folds else 10)
    # All but the folds' own figures is counted over the pairs alone.
    assert [found[name] for name in ("auc", "eer", "tar_at_far")] == [
        wanted[name] for name in ("auc", "eer", "tar_at_far")
    ]
    if folds:
        assert found == wanted


@pytest.mark.parametrize(
    "written",
    [
        lambda row: row.split("/")[1],
        lambda row: f"/data/aligned/{row}".replace(".jpg", ".png"),
        lambda row: f"aligned/{row.split('/')[1]}",
        lambda row: row.replace("/", "\\"),
    ],
)
@pytest.mark.parametrize("form", ["LFW", "1.0 and 0.0", "FGLFW"])
def test_folders_in_front_and_endings_do_not_matter(tmp_path: Path, written: object, form: str) -> None:
    assert callable(written)
    assert _evaluate(tmp_path, FORMS[form][0], [written(row) for row in ROWS]) == _evaluate(
        tmp_path, FORMS[form][0]
    )


def test_images_that_only_folders_tell_apart(tmp_path: Path) -> None:
    rows = [row.replace(f"/{row.split('/')[0]}_", "/") for row in ROWS]
    text = table(labelled(), " ")
    for name in PEOPLE:
        text = text.replace(f"/{name}_", "/")
    assert _evaluate(tmp_path, text, rows) == _evaluate(tmp_path, table(labelled(), " "))
    assert _evaluate(tmp_path, lfw(), rows) == _evaluate(tmp_path, lfw())
    with pytest.raises(TrainerInputError, match=r"line 1: 0001\.jpg may be line 1 or 6 of .*paths\.txt"):
        _evaluate(tmp_path, text.replace("Ann_Lee/0001.jpg", "0001.jpg", 1), rows)
    with pytest.raises(TrainerInputError, match=r"line 1: Zoe/0001\.jpg is not in .*paths\.txt"):
        _evaluate(tmp_path, text.replace("Ann_Lee/0001.jpg", "Zoe/0001.jpg", 1), rows)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_encodings_of_both_files(tmp_path: Path, encoding: str) -> None:
    text, rows = lfw().replace("Bo\t", "Bo\u00e9\t"), [row.replace("Bo", "Bo\u00e9") for row in ROWS]
    assert _evaluate(tmp_path, text, rows, encoding) == _evaluate(tmp_path, lfw())


def test_the_first_pair_is_not_dropped(tmp_path: Path) -> None:
    text = table(labelled(), " ").replace(" 1\n", " 2\n", 1)
    with pytest.raises(PairSetError, match="line 1: expected two paths and 1"):
        _evaluate(tmp_path, text)
    with pytest.raises(TrainerInputError, match=r"line 2: nobody\.jpg is not in"):
        _evaluate(tmp_path, table(labelled(), " ").replace(f"\n{expected()[1][0]}", "\nnobody.jpg", 1))


@pytest.mark.real_faces
@pytest.mark.parametrize(("name", "same"), [("ytf_pairs.txt", 2400), ("ytf_splits_no_header.txt", 2500)])
def test_ytfs_own_lists_are_read(shared_data: Path, tmp_path: Path, name: str, same: int) -> None:
    file = shared_data / "lists" / name
    videos = sorted(
        {field for line in file.read_text().splitlines() for field in line.replace(",", " ").split()[2:4]}
    )
    (tmp_path / "paths.txt").write_text("\n".join(videos))
    rows = ImageRows(tmp_path / "paths.txt")
    listed = read_list(file, rows)
    assert (len(listed), sum(pair.same for pair in listed)) == (5000, same)
    assert [sum(pair.fold == fold for pair in listed) for fold in range(1, 11)] == [500] * 10
    assert (listed[0].first.name, listed[0].second.name, listed[0].same) == (
        "Sadie_Frost/1",
        "Sadie_Frost/5",
        True,
    )
    assert all(rows.find(end) >= 0 for pair in listed for end in (pair.first, pair.second))
