"""`cosface evaluate` on a run's checkpoint and on embeddings made elsewhere, and what it writes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trainer.test_evaluation_embed import pair_file
from trainer.backbones import make_backbone
from trainer.checkpoint import Tensors, save_checkpoint
from trainer.commands_evaluate import EvaluateOptions, evaluate
from trainer.errors import TrainerInputError
from trainer.evaluation import backbone as backbone_module
from trainer.evaluation.backbone import load_backbone
from trainer.evaluation.embeddings_file import load_embeddings
from trainer.evaluation.lfw import evaluate_embeddings
from trainer.evaluation.report import read_json, write_report
from trainer.evaluation.verification import evaluate_scores
from trainer.ranks import Ranks
from trainer.state import ModelDescription, SavedState

SIZE = (32, 32)
FOLDS, PER_FOLD = 10, 3


def small_lfw(folder: Path) -> tuple[Path, Path, Path]:
    """A list in LFW's form, 10 folds of 3 + 3 pairs, and embeddings that tell the people apart."""
    random = np.random.default_rng(0)
    people = [f"Person_{number}" for number in range(FOLDS * PER_FOLD)]
    centres = random.normal(size=(len(people), 16))
    rows = (centres[:, None] + 0.2 * random.normal(size=(len(people), 2, 16))).reshape(-1, 16)
    paths = [f"{person}/{person}_{image:04d}.jpg" for person in people for image in (1, 2)]
    lines = [f"{FOLDS}\t{PER_FOLD}"]
    for fold in range(FOLDS):
        own = people[fold * PER_FOLD : (fold + 1) * PER_FOLD]
        lines += [f"{person}\t1\t2" for person in own]
        lines += [f"{person}\t1\t{people[(people.index(person) + 5) % len(people)]}\t2" for person in own]
    np.save(folder / "e.npy", rows.astype(np.float16))
    (folder / "paths.txt").write_text("\n".join(paths) + "\n")
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    return folder / "e.npy", folder / "paths.txt", folder / "pairs.txt"


def saved_run(run: Path, *, averaged: bool) -> Path:
    """Checkpoints of steps 3 and 7 of a 4-layer network; the running average is the negated weights."""
    network = make_backbone("sphereface4", 8, SIZE, seed=1).state_dict()
    backbone = {f"model.{name}": value for name, value in network.items()}
    if averaged:
        backbone |= {f"average.{name}": -value for name, value in network.items()}
    model = ModelDescription("sphereface4", 8, SIZE, 2, "cosface", 1)
    for step in (3, 7):
        tensors = Tensors(backbone, {}, {"weight": torch.zeros(2, 8)}, (0, 2))
        save_checkpoint(run, SavedState(step, step, 1, model), tensors, Ranks(), keep=2)
    return run


def test_elsewhere_embeddings_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    embeddings, paths, pairs = small_lfw(tmp_path)
    out, report = tmp_path / "new" / "out.json", tmp_path / "report"
    options = EvaluateOptions(embeddings=embeddings, paths=paths, pairs=pairs, json=out, report=report)
    assert evaluate(options) == 0
    printed = capsys.readouterr().out
    assert "100.00 ± 0.00" in printed
    assert "report.html" in printed
    plain = json.loads(out.read_text())
    assert plain["e"]["accuracy"] == 1.0
    assert plain["e"]["tar_at_far"] == {"0.1": 1.0, "0.01": None, "0.001": None}
    assert {"accuracy_std", "auc", "pairs", "folds", "eer", "thresholds"} <= plain["e"].keys()
    assert {file.name for file in report.iterdir()} == {
        "report.html",
        "report.json",
        "roc.png",
        "scores-e.png",
    }
    assert read_json(report / "report.json")["e"].to_json() == plain["e"]


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    same = np.arange(60) % 2 == 0
    result = evaluate_scores(np.where(same, 0.5, 0.0) + np.linspace(0, 0.7, 60), same)
    page = write_report({"<set>/1": result}, tmp_path, "A & B", note="n", beside={"untrained": result})
    text = page.read_text()
    assert not re.search(r"https?://|<script|<link", text)
    assert text.count("data:image/png;base64,") == 2
    assert "&lt;set&gt;/1" in text
    assert "A &amp; B" in text
    assert (tmp_path / "scores-_set_1.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_by_its_newest_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = saved_run(tmp_path / "run", averaged=False)
    pairs, out = pair_file(tmp_path / "x.bin", 40), tmp_path / "out.json"
    assert evaluate(EvaluateOptions(run=run, verification=(pairs,), json=out, device="cpu")) == 0
    assert "weights of step 7" in " ".join(capsys.readouterr().out.split())
    assert json.loads(out.read_text())["x"]["pairs"] == 40


def test_fewer_folds_are_said_in_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = saved_run(tmp_path / "run", averaged=False)
    few, usual = pair_file(tmp_path / "few.bin", 12), pair_file(tmp_path / "usual.bin", 40)
    options = {"run": run, "device": "cpu", "json": tmp_path / "out.json", "report": tmp_path / "report"}
    assert evaluate(EvaluateOptions(verification=(few, usual), **options)) == 0  # type: ignore[arg-type]
    printed = capsys.readouterr().out.splitlines()
    lines = [line.split() for line in printed]
    assert [line[:3] for line in lines if line[:1] in (["few"], ["usual"])] == [
        ["few", "12", "6"],
        ["usual", "40", "10"],
    ]
    assert max(len(line) for line in printed if not line.startswith("report: ")) <= 80
    assert json.loads((tmp_path / "out.json").read_text())["few"]["folds"] == 6
    assert "<th>folds</th>" in (tmp_path / "report" / "report.html").read_text()
    assert evaluate(EvaluateOptions(verification=(usual,), **options)) == 0  # type: ignore[arg-type]
    assert "<th>folds</th>" not in (tmp_path / "report" / "report.html").read_text()


def test_averaged_weights_are_preferred(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    plain = load_backbone(saved_run(tmp_path / "plain", averaged=False), cpu, step=3)
    averaged = load_backbone(saved_run(tmp_path / "averaged", averaged=True), cpu)
    assert (plain.averaged, plain.step, plain.image_size) == (False, 3, SIZE)
    assert averaged.averaged
    assert averaged.describe() == "sphereface4, 32×32, averaged weights of step 7"
    assert not averaged.module.training
    for own, other in zip(plain.module.parameters(), averaged.module.parameters(), strict=True):
        torch.testing.assert_close(own, -other)


def test_a_changed_byte_of_the_backbone_is_found_and_another_checkpoint_named(tmp_path: Path) -> None:
    run = saved_run(tmp_path / "run", averaged=False)
    file = run / "checkpoints" / "step-00000007" / "backbone.safetensors"
    content = bytearray(file.read_bytes())
    content[-9] ^= 4  # a weight that is still a number
    file.write_bytes(content)
    with pytest.raises(TrainerInputError) as caught:
        load_backbone(run, torch.device("cpu"))
    assert str(caught.value) == (
        f"{file}: the checkpoint is damaged: its checksum is not the one that was written; "
        "--step 3 evaluates another one"
    )
    assert load_backbone(run, torch.device("cpu"), step=3).step == 3


def test_a_checkpoint_that_the_run_removes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = saved_run(tmp_path / "run", averaged=False)
    real = backbone_module.read_state

    def overtaken(checkpoint: Path) -> SavedState:
        """The run writes a newer one and removes this one when it has just been chosen."""
        if checkpoint.name == "step-00000007":
            checkpoint.rename(checkpoint.with_name("step-00000009"))
        return real(checkpoint)

    monkeypatch.setattr(backbone_module, "read_state", overtaken)
    assert load_backbone(run, torch.device("cpu")).step == 7  # what lies in step-00000009
    monkeypatch.setattr(backbone_module, "read_state", real)

    def removed(checkpoint: Path) -> SavedState:
        shutil.rmtree(checkpoint)
        return real(checkpoint)

    monkeypatch.setattr(backbone_module, "read_state", removed)
    with pytest.raises(TrainerInputError, match="step-00000003: was removed while it was read; a run keeps"):
        load_backbone(run, torch.device("cpu"), step=3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "nothing to evaluate"),
        ({"run": "run"}, "--verification needs"),
        ({"run": "run", "pairs": "p"}, "do not go with"),
        ({"embeddings": "e", "pairs": "p"}, "missing --paths"),
        ({"run": "nowhere", "verification": ("x.bin",)}, "nowhere: is no folder"),
        ({"run": "empty", "verification": ("x.bin",)}, "no finished checkpoint"),
        ({"run": "run", "verification": ("x.bin",), "step": 5}, "there are those of steps 3, 7"),
    ],
)
def test_what_cannot_be_evaluated(
    options: dict[str, object], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved_run(Path("run"), averaged=False)
    Path("empty").mkdir()
    pair_file(Path("x.bin"), 40)
    given = {name: Path(value) if isinstance(value, str) else value for name, value in options.items()}
    if "verification" in given:
        given["verification"] = (Path("x.bin"),)
    with pytest.raises(TrainerInputError, match=words) as caught:
        evaluate(EvaluateOptions(**given))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_rows_paths_and_pairs_must_agree(tmp_path: Path) -> None:
    embeddings, paths, pairs = small_lfw(tmp_path)
    lines = paths.read_text().splitlines()

    def complaint(*changed: str) -> str:
        paths.write_text("\n".join(changed) + "\n")
        with pytest.raises(TrainerInputError) as caught:
            evaluate_embeddings(embeddings, paths, pairs)
        return str(caught.value)

    assert "59 lines" in complaint(*lines[:-1])
    assert "line 2: Person_0_0001 is already on line 1" in complaint(lines[0], *lines[:-1])
    assert "line 3: is empty" in complaint(*lines[:2], "", *lines[3:])
    assert "line 2: Person_0_0001 is not in" in complaint("Someone_0001.png", *lines[1:])


def test_files_of_embeddings_that_are_none(tmp_path: Path) -> None:
    file = tmp_path / "e.npy"
    with pytest.raises(TrainerInputError, match="cannot be read"):
        load_embeddings(file)
    file.write_bytes(b"")
    with pytest.raises(TrainerInputError, match=r"is not a \.npy"):
        load_embeddings(file)
    np.save(file, np.array([{"run": "me"}], dtype=object), allow_pickle=True)
    with pytest.raises(TrainerInputError, match=r"is not a \.npy"):
        load_embeddings(file)
    for array in (np.zeros(4), np.zeros((4, 3), dtype=int), np.zeros((0, 3))):
        np.save(file, array)
        with pytest.raises(TrainerInputError, match="expected floats of shape"):
            load_embeddings(file)
    np.save(file, np.zeros((4, 2, 3)))
    with pytest.raises(TrainerInputError, match="expected floats of shape"):
        load_embeddings(file)
    rows = np.ones((4, 3))
    rows[2] = np.nan
    np.save(file, rows)
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(TrainerInputError, match=r"is not a \.npy"):
        load_embeddings(file)


@pytest.mark.parametrize("shape", [(1 << 40, 1 << 20), (1 << 62, 1 << 62), (10**30, 4), (4, 64), (-4, 3)])
def test_a_shape_that_the_file_does_not_hold_is_refused_unread(
    tmp_path: Path, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "e.npy"
    with file.open("wb") as stream:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(stream, header)
        stream.write(b"\0" * 64)
    monkeypatch.setattr(np, "fromfile", lambda *_: pytest.fail("it was read"))
    with pytest.raises(TrainerInputError, match=r"e\.npy: .* more than the 64 bytes behind it") as caught:
        load_embeddings(file)
    assert "\n" not in str(caught.value)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.integers(0, 200), byte=st.integers(0, 255))
def test_a_damaged_file_of_embeddings_is_read_or_refused(tmp_path: Path, place: int, byte: int) -> None:
    file = tmp_path / "e.npy"
    np.save(file, np.ones((4, 3)))
    content = bytearray(file.read_bytes())
    content[place % len(content)] = byte
    file.write_bytes(content)
    try:
        rows = load_embeddings(file)
    except TrainerInputError:
        return
    assert rows.nbytes <= 96


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("kind", ["<f2", "<f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_embeddings_are_read_as_they_were_written(
    tmp_path: Path, version: tuple[int, int], kind: str, order: Literal["C", "F"]
) -> None:
    rows = np.random.default_rng(0).normal(size=(5, 3)).astype(kind, order=order)
    for shape in ((5, 3), (5, 1, 3), (5, 3, 1, 1)):
        with (tmp_path / "e.npy").open("wb") as stream:
            np.lib.format.write_array(stream, rows.reshape(shape, order=order), version)
        np.testing.assert_array_equal(load_embeddings(tmp_path / "e.npy"), rows)


def test_a_row_that_no_pair_needs_may_be_zero(tmp_path: Path) -> None:
    embeddings, paths, pairs = small_lfw(tmp_path)
    before = evaluate_embeddings(embeddings, paths, pairs).to_json()
    np.save(embeddings, np.concatenate([np.zeros((1, 16)), np.load(embeddings)])[:, None])
    paths.write_text("Nobody/Nobody_0001.jpg\n" + paths.read_text())
    assert evaluate_embeddings(embeddings, paths, pairs).to_json() == before


def test_a_report_that_cannot_be_written(tmp_path: Path) -> None:
    embeddings, paths, pairs = small_lfw(tmp_path)
    with pytest.raises(TrainerInputError, match=r"cannot be written"):
        evaluate(EvaluateOptions(embeddings=embeddings, paths=paths, pairs=pairs, json=paths / "out.json"))


@pytest.mark.real_faces
def test_lfw_view_2_of_real_embeddings(shared_data: Path) -> None:
    folder = shared_data / "lfw_embeddings"
    expected = json.loads((folder / "expected.json").read_text())
    result = evaluate_embeddings(
        folder / "embeddings.f16.npy", folder / "paths.txt", shared_data / "lfw" / "pairs.txt"
    )
    assert result.fold_accuracies == pytest.approx(expected["view2"]["exact_lowest"]["folds"], abs=1e-12)
    assert result.accuracy_std == pytest.approx(expected["view2"]["exact_lowest"]["std_ddof0"], abs=1e-12)
    assert result.accuracy_standard_error == pytest.approx(expected["view2"]["exact_lowest"]["se"], abs=1e-12)
    lowest = [fold["lowest"] for fold in expected["view2"]["thresholds"]]
    assert result.thresholds == pytest.approx(lowest, abs=1e-9)
    assert 0.98817 <= result.accuracy <= 0.98883
    pooled = expected["pooled_6000"]
    assert result.auc == pytest.approx(pooled["auc"], abs=1e-9)
    assert result.eer == pytest.approx(pooled["eer"], abs=1e-9)
    for key, value in pooled["tar_at_far"].items():
        assert result.tar_at_far[key] == pytest.approx(value["tar"], abs=1e-9)
