"""Which checkpoint a run goes on from when some are damaged, on one rank and on two."""

from __future__ import annotations

import errno
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.ranks import run_ranks, these_ranks
from tests.trainer.test_checkpoint import MODEL, save, tensors
from trainer import checkpoint as checkpoint_module
from trainer.checkpoint import NotWritten, checkpoint_steps, remove_leftovers, save_checkpoint
from trainer.errors import TrainerInputError
from trainer.ranks import Ranks
from trainer.sound import newest_sound
from trainer.state import SavedState


def damage(checkpoint: Path, name: str = "backbone.safetensors") -> None:
    file = checkpoint / name
    content = file.read_bytes()
    file.write_bytes(content[:-5] + bytes(byte ^ 1 for byte in content[-5:]))


def test_a_damaged_newest_is_passed_over_and_stays_until_it_is_replaced(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    damaged = tmp_path / "checkpoints" / "step-00000002"
    damage(damaged)
    found = newest_sound(tmp_path, Ranks())
    assert found is not None
    assert (found.folder.name, found.state.step, list(found.damaged)) == ("step-00000001", 1, [2])
    assert found.damaged[2] == (
        f"{damaged / 'backbone.safetensors'}: the checkpoint is damaged: its checksum is not the one that "
        "was written"
    )
    content = (damaged / "backbone.safetensors").read_bytes()
    # The run that goes on from step 1 keeps what it writes, and the damaged one is not touched.
    state = SavedState(1, 8, 1, MODEL)
    for number in range(3):
        between = replace(state, step=1, position=number)
        save_checkpoint(tmp_path, between, tensors(Ranks()), Ranks(), 1, unsound={2})
        assert (damaged / "backbone.safetensors").read_bytes() == content
        assert list(checkpoint_steps(tmp_path)) == [1, 2]
    save_checkpoint(tmp_path, replace(state, step=2), tensors(Ranks()), Ranks(), 1, unsound={2})
    assert list(checkpoint_steps(tmp_path)) == [2]
    again = newest_sound(tmp_path, Ranks())
    assert again is not None
    assert (again.state.step, again.damaged) == (2, {})


def test_a_damaged_one_that_the_run_came_by_takes_no_place(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    damage(tmp_path / "checkpoints" / "step-00000002")
    save_checkpoint(tmp_path, SavedState(3, 24, 1, MODEL), tensors(Ranks()), Ranks(), 2, unsound={2})
    assert list(checkpoint_steps(tmp_path)) == [1, 3]


@pytest.mark.parametrize("name", ["state.json", "head-00000.safetensors", "optimizer.safetensors"])
def test_none_that_is_sound_is_one_line_that_names_all(tmp_path: Path, name: str) -> None:
    for step in (1, 2):
        save(tmp_path, step)
        damage(tmp_path / "checkpoints" / f"step-{step:08d}", name)
    with pytest.raises(TrainerInputError, match=r"has no sound checkpoint to go on from: ") as caught:
        newest_sound(tmp_path, Ranks())
    told = str(caught.value)
    assert told.startswith(f"--run {tmp_path}: ")
    assert told.index(f"step-00000002/{name}") < told.index(f"step-00000001/{name}")
    assert "\n" not in told
    assert newest_sound(tmp_path / "none", Ranks()) is None


def test_a_state_of_another_format_is_no_damage(tmp_path: Path) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    text = (newest / "state.json").read_text()
    (newest / "state.json").write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(
        TrainerInputError, match=r"state\.json: its format is 2, this version reads 1; use the"
    ):
        newest_sound(tmp_path, Ranks())


def newest_of(run: Path, hidden: bool) -> list[object]:
    """What each rank takes; hidden: rank 1's disk gives other bytes than rank 0's."""
    ranks = these_ranks()
    if hidden and ranks.rank == 1:
        # In a process of its own: nothing is to be put back.
        real = checkpoint_module._crc32
        checkpoint_module._crc32 = lambda file: real(file) ^ ("step-00000003" in str(file))
    found = newest_sound(run, ranks)
    return [found and found.folder.name, found and list(found.damaged)]


@pytest.mark.parametrize("hidden", [False, True])
def test_all_ranks_pass_over_what_one_of_them_finds_damaged(tmp_path: Path, hidden: bool) -> None:
    for step in (2, 3):
        save(tmp_path, step)
    if not hidden:
        damage(tmp_path / "checkpoints" / "step-00000003", "optimizer.safetensors")
    assert run_ranks(2, newest_of, tmp_path, hidden) == [["step-00000002", [3]]] * 2


def test_what_is_being_written_has_a_name_that_cannot_be_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def note(tensors: object, file: Path, **_: object) -> None:
        seen.append(file.parent.name)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("trainer.checkpoint.save_file", note)
    for _ in range(2):
        with pytest.raises(NotWritten):
            save(tmp_path, 2)
    assert all(re.fullmatch(r"\.step-00000002\.[0-9a-f]{16}\.tmp", name) for name in seen)
    assert len(set(seen)) == 2
    (tmp_path / "checkpoints" / seen[0]).mkdir()
    remove_leftovers(tmp_path)
    assert not list((tmp_path / "checkpoints").iterdir())
