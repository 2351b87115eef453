"""The head over Horovod: the same numbers as over torch.distributed, to the last bit."""

from __future__ import annotations

import itertools
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from partial_fc import CosFace, CurricularFace, Horovod, Softmax
from partial_fc.errors import HeadInputError
from tests.horovod_ranks import horovodrun
from tests.partial_fc.test_exactness import STEPS, assert_exact, make_case, train
from tests.ranks import run_ranks

SHAPES = [(17, 8, (5, 3, 6)), (2, 4, (2, 0, 3)), (300, 16, (4, 4, 4))]
"""Uneven shards and batches; a rank with no class and one with no image."""


@pytest.mark.horovod
@pytest.mark.parametrize("world_size", [2, 3])
def test_horovods_numbers_are_torchs_and_the_definitions(world_size: int, tmp_path: Path) -> None:
    margins = [CosFace(64.0, 0.35), Softmax(), CurricularFace(32.0, forgets=0.5)]
    options = [{}, {"wire_dtype": torch.bfloat16}, {"sample_rate": 0.3}]
    cases = [make_case(*one, world_size) for one in itertools.product(margins, options, SHAPES)]
    (tmp_path / "cases").write_bytes(pickle.dumps(cases))
    horovodrun(world_size, "-m", "tests.partial_fc.horovod_rank", str(tmp_path))
    found = [pickle.loads((tmp_path / str(rank)).read_bytes()) for rank in range(world_size)]
    expected = run_ranks(world_size, train, cases, STEPS)
    for over_horovod, over_torch in zip(found, expected, strict=True):
        for case, ours, theirs in zip(cases, over_horovod, over_torch, strict=True):
            for name, value in theirs.items():
                np.testing.assert_array_equal(ours[name], value, err_msg=f"{case} {name}")
    exact = [number for number, case in enumerate(cases) if not case.options]
    assert_exact([cases[i] for i in exact], [[results[i] for i in exact] for results in found])


@pytest.mark.horovod
def test_horovod_must_be_initialised() -> None:
    with pytest.raises(HeadInputError, match=r"call hvd\.init\(\) before"):
        Horovod()


def test_horovod_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "horovod.torch", None)  # as where it is not installed
    with pytest.raises(HeadInputError, match="needs Horovod built for this torch"):
        Horovod()


def test_a_deadline_is_a_time() -> None:
    with pytest.raises(HeadInputError, match="deadline_s must be above 0 and finite, got 0"):
        Horovod(deadline_s=0)
