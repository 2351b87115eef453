"""What whoever resumes a run should know: what was passed over, and what is no longer as it was."""

from __future__ import annotations

import math

from data_pipeline.sets.fingerprint import Fingerprint
from trainer.recipe import settled
from trainer.schedule import OptimConfig, learning_rate
from trainer.sound import Sound
from trainer.state import SavedState


def notes_on(
    found: Sound, data: Fingerprint, optim: OptimConfig, images_a_step: int, total_steps: int
) -> list[str]:
    """Lines about going on from a checkpoint, with these data, this schedule and so many steps in all.

    optim: as it was given. images_a_step: of all ranks together, which the default rate follows.
    """
    notes = [f"{fault}; step {step} is passed over" for step, fault in found.damaged.items()]
    if found.state.data is None:
        notes.append(
            f"{found.folder.name} does not say which set it was trained on; it is taken to be this one"
        )
    elif differences := found.state.data.differences(data):
        notes.append(f"it goes on with another set than that of {found.folder.name}: {differences}")
    if (jump := _jump(found.state, optim, images_a_step, total_steps)) is not None:
        notes.append(jump)
    return notes


def _jump(state: SavedState, optim: OptimConfig, images_a_step: int, total_steps: int) -> str | None:
    """The learning rate is not what it would have been, had the run gone on as it was."""
    if state.rate is None or state.step >= total_steps:
        return None

    def rate_in_a_run_of(steps: int) -> float:
        return learning_rate(settled(optim, images_a_step, steps), state.step, steps)

    now = rate_in_a_run_of(total_steps)
    if math.isclose(now, state.rate.next, rel_tol=1e-6):
        return None
    if math.isclose(rate_in_a_run_of(state.rate.total_steps), state.rate.next, rel_tol=1e-6):
        reason = f"its schedule spans {total_steps} steps now, {state.rate.total_steps} before"
    else:
        reason = "the settings of --optim are others than before"
        if optim.lr is None:
            reason += ", or the images of a step, which the default --optim.lr follows"
    if math.isclose(now, state.rate.last, rel_tol=1e-6):
        return (
            f"the learning rate stays at {now:.4g} in step {state.step + 1}, where it would have been "
            f"{state.rate.next:.4g}: {reason}"
        )
    return (
        f"the learning rate goes from {state.rate.last:.4g} in step {state.step} to {now:.4g} in step "
        f"{state.step + 1}: {reason}"
    )
