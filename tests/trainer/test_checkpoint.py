from __future__ import annotations

import errno
import re
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from partial_fc import class_range
from tests.ranks import run_ranks, these_ranks
from trainer.checkpoint import (
    NotWritten,
    Tensors,
    checkpoint_steps,
    load_head,
    read_state,
    remove_leftovers,
    save_checkpoint,
    verify_checkpoint,
)
from trainer.errors import TrainerInputError, TrainingFailed
from trainer.ranks import FailedElsewhere, Ranks
from trainer.shards import read_classes, shard_name, write_shard
from trainer.sound import newest_sound
from trainer.state import FileEntry, ModelDescription, SavedState

CLASSES = 11
MODEL = ModelDescription("sphereface4", 4, (32, 32), CLASSES, "softmax", 0)


def centres() -> dict[str, Tensor]:
    weight = torch.arange(CLASSES * 4, dtype=torch.float32).view(CLASSES, 4)
    return {"weight": weight, "momentum": -weight, "bias": weight[:, 0] + 0.5}


def tensors(ranks: Ranks) -> Tensors:
    first, last = class_range(CLASSES, ranks.rank, ranks.world_size)
    head = {name: value[first:last] for name, value in centres().items()}
    return Tensors({"model.w": torch.ones(3)}, {"momentum.w": torch.zeros(3)}, head, (first, last))


def save(run: Path, step: int, keep: int = 2, ranks: Ranks | None = None) -> Path:
    ranks = ranks or Ranks()
    return save_checkpoint(run, SavedState(step, step * 8, 1, MODEL), tensors(ranks), ranks, keep)


def save_rank(run: Path) -> None:
    save(run, 7, ranks=these_ranks())


def load_rank(run: Path) -> bool:
    ranks = these_ranks()
    wanted = tensors(ranks)
    found = newest_sound(run, ranks)
    assert found
    state, head = load(found.folder, ranks)
    return state.position == 56 and all(torch.equal(head[name], wanted.head[name]) for name in centres())


def load(checkpoint: Path, ranks: Ranks) -> tuple[SavedState, dict[str, Tensor]]:
    wanted = tensors(ranks)
    head = {name: torch.full_like(value, torch.nan) for name, value in wanted.head.items()}
    state = read_state(checkpoint)
    verify_checkpoint(checkpoint, state, ranks)
    load_head(checkpoint, state, wanted.class_range, head)
    return state, head


def newest_rank(runs: list[Path]) -> str:
    ranks = these_ranks()
    try:
        found = newest_sound(runs[ranks.rank], ranks)
        return str(found and found.folder)
    except (TrainerInputError, FailedElsewhere) as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("readers", [1, 2, 3, 5, 13])
@pytest.mark.parametrize("writers", [1, 2, 4, 13])
def test_classes_are_found_whatever_the_numbers_of_ranks(tmp_path: Path, writers: int, readers: int) -> None:
    files = [tmp_path / shard_name(rank) for rank in range(writers)]
    for rank, file in enumerate(files):
        first, last = class_range(CLASSES, rank, writers)
        write_shard(
            file, {name: value[first:last] for name, value in centres().items()}, (first, last), CLASSES
        )
    for rank in range(readers):
        first, last = class_range(CLASSES, rank, readers)
        read = {name: torch.full_like(value[first:last], torch.nan) for name, value in centres().items()}
        read_classes(files, (first, last), read)
        assert all(torch.equal(read[name], value[first:last]) for name, value in centres().items())


def test_three_ranks_write_and_two_read(tmp_path: Path) -> None:
    run_ranks(3, save_rank, tmp_path)
    assert sorted(file.name for file in (tmp_path / "checkpoints" / "step-00000007").iterdir()) == [
        "backbone.safetensors",
        *(shard_name(rank) for rank in range(3)),
        "optimizer.safetensors",
        "state.json",
    ]
    assert run_ranks(2, load_rank, tmp_path) == [True, True]


def test_rank_0_says_which_checkpoint_is_the_newest(tmp_path: Path) -> None:
    save(tmp_path / "a", 2)
    for step in (2, 3):
        save(tmp_path / "b", step)
    assert run_ranks(2, newest_rank, [tmp_path / "a", tmp_path / "b"]) == [
        str(tmp_path / run / "checkpoints" / "step-00000002") for run in ("a", "b")
    ]
    assert run_ranks(2, newest_rank, [tmp_path / "none", tmp_path / "b"]) == ["None", "None"]
    first, second = run_ranks(2, newest_rank, [tmp_path / "a", tmp_path / "none"])
    assert first == "FailedElsewhere: rank 1 failed"
    assert "step-00000002: rank 0 goes on from this checkpoint, rank 1 on " in second


def test_a_shard_of_another_head_is_named(tmp_path: Path) -> None:
    file = tmp_path / shard_name(0)
    write_shard(file, centres(), (0, CLASSES), CLASSES)
    for into, reason in (
        ({"weight": torch.zeros(CLASSES, 4)}, r"it has \['bias', 'momentum', 'weight'\], \['weight'\]"),
        (centres() | {"weight": torch.zeros(CLASSES, 5)}, r"5"),
    ):
        with pytest.raises(
            TrainerInputError, match=rf"head-00000.* is no readable shard of the head: .*{reason}"
        ):
            read_classes([file], (0, CLASSES), into)
    with pytest.raises(TrainerInputError, match="no shard holds class 11; classes 0 to 11 are needed"):
        read_classes([file], (0, 12), {name: torch.cat([v, v[:1]]) for name, v in centres().items()})


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10, 3):
        save(tmp_path, step)
    assert list(checkpoint_steps(tmp_path)) == [3, 10]
    assert [file.name for file in sorted((tmp_path / "checkpoints").iterdir())] == [
        "step-00000003",
        "step-00000010",
    ]


def test_half_a_checkpoint_is_none(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / "checkpoints" / ".step-00000002.tmp").mkdir()
    assert list(checkpoint_steps(tmp_path).values())[-1] == tmp_path / "checkpoints" / "step-00000001"
    assert checkpoint_steps(tmp_path / "elsewhere") == {}


def test_what_a_killed_run_leaves_is_removed(tmp_path: Path) -> None:
    remove_leftovers(tmp_path)
    kept = save(tmp_path, 1)
    for name in (".step-00000002.tmp", ".step-00000000.old"):
        (kept.parent / name).mkdir()
        (kept.parent / name / "state.json").write_text("{}")
    (kept.parent / "notes.tmp").mkdir()
    (tmp_path / "evaluation").mkdir()
    names = [".run.toml.0123456789abcdef.tmp", "evaluation/.step-1.json.0123456789abcdef.tmp", ".mine.tmp"]
    for name in names:
        (tmp_path / name).write_text("half")
    remove_leftovers(tmp_path)
    assert [(tmp_path / name).exists() for name in names] == [False, False, True]
    assert sorted(entry.name for entry in kept.parent.iterdir()) == ["notes.tmp", kept.name]


@pytest.mark.parametrize(
    "name", ["backbone.safetensors", "optimizer.safetensors", shard_name(0), "state.json"]
)
@pytest.mark.parametrize("damage", ["gone", "cut", "changed"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, damage: str) -> None:
    checkpoint = save(tmp_path, 1)
    file = checkpoint / name
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[:-5])
    else:
        file.write_bytes(content[:-5] + bytes(byte ^ 1 for byte in content[-5:]))
    with pytest.raises(TrainerInputError) as caught:
        load(checkpoint, Ranks())
    assert str(caught.value).startswith(f"{file}: the checkpoint is damaged: ")


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("trainer.checkpoint.save_file", full)
    with pytest.raises(TrainingFailed, match=r"step-00000002.* could not be written: .*No space left"):
        save(tmp_path, 2)
    assert [file.name for file in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]
    assert load(tmp_path / "checkpoints" / "step-00000001", Ranks())


def test_state_survives_json() -> None:
    state = SavedState(3, 24, 2, MODEL, {"mean": 20.0}, {"torch": "x"}, {"a.safetensors": FileEntry(1, 2)})
    assert SavedState.from_json(state.to_json()) == state
    for text in ("{}", "[]", "3", state.to_json().replace('"step"', '"stop"')):
        with pytest.raises(ValueError, match=r".+"):
            SavedState.from_json(text)


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ('"step": 3', '"step": null', "step: a whole number is expected, got null"),
        ('"position": 24', '"position": "24"', 'position: a whole number is expected, got "24"'),
        ('"position": 24', '"position": -24', "step and position are 0 or more, got 3 and -24"),
        ('"world_size": 2', '"world_size": 2.5', "world_size: a whole number is expected, got 2.5"),
        ('"world_size": 2', '"world_size": 0', "world_size is 1 or more, got 0"),
        ('"mean": 20.0', '"mean": []', "margin_state.mean: a number is expected, got []"),
        ('"bytes": 1', '"bytes": -1', "files.a.safetensors: bytes are 0 or more, got -1"),
        ('"a.safetensors"', '"../a"', "files: '../a' is no file's name"),
        (
            '"num_classes": 11',
            '"num_classes": null',
            "model.num_classes: a whole number is expected, got null",
        ),
        ("32,\n   32", "32", "model.image_size: a list of 2 is expected, got [32]"),
        ('"backbone": "sphereface4"', '"backbone": 4', "model.backbone: a text is expected, got 4"),
        ('"torch": "x"', '"torch": 2', "versions.torch: a text is expected, got 2"),
    ],
)
def test_a_state_of_other_types_is_one_line(tmp_path: Path, before: str, after: str, complaint: str) -> None:
    state = SavedState(3, 24, 2, MODEL, {"mean": 20.0}, {"torch": "x"}, {"a.safetensors": FileEntry(1, 2)})
    assert before in state.to_json()
    (tmp_path / "state.json").write_text(state.to_json().replace(before, after))
    with pytest.raises(TrainerInputError) as caught:
        read_state(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'state.json'}: the checkpoint is damaged: {complaint}")
    assert "\n" not in str(caught.value)


def test_an_unfinished_state_is_damaged(tmp_path: Path) -> None:
    checkpoint = save(tmp_path, 1)
    (checkpoint / "state.json").write_text("{")
    with pytest.raises(TrainerInputError, match=r"state\.json: the checkpoint is damaged"):
        read_state(checkpoint)


def test_differences_are_in_words() -> None:
    other = ModelDescription("sphereface4", 8, (32, 24), CLASSES, "softmax", 0)
    assert MODEL.differences(MODEL) == ""
    assert MODEL.differences(other) == (
        "model.embedding-dim is 4 there and 8 here, image size is 32×32 there and 32×24 here"
    )


def test_a_set_of_another_size_is_another_run() -> None:
    before, now = replace(MODEL, num_images=168), replace(MODEL, num_images=170)
    assert before.differences(now) == "number of images is 168 there and 170 here"
    assert before.differences(before) == MODEL.differences(now) == ""


def save_where_rank_1_has_no_room(run: Path) -> list[object]:
    ranks = these_ranks()
    if ranks.rank == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
    try:
        save(run, 2, ranks=ranks)
    except NotWritten as error:
        return [error.rank, str(error)]
    return []


def test_all_ranks_know_that_the_disk_of_one_is_full(tmp_path: Path) -> None:
    save(tmp_path, 1)
    first, second = run_ranks(2, save_where_rank_1_has_no_room, tmp_path)
    assert first == second
    assert first[0] == 1
    assert re.search(r"step-00000002 could not be written on rank 1: .*[Ff]ile too large", first[1])
    assert [entry.name for entry in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]
