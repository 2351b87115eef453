"""JSON as dataclasses: every type, and one line for whatever is of another."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Literal

import pytest

from data_pipeline.files.typed_json import from_json


@dataclass(frozen=True)
class Inner:
    share: float
    on: bool = False


@dataclass(frozen=True)
class Outer:
    step: int
    name: str | None
    kind: Literal["a", "b"]
    size: tuple[int, int]
    parts: tuple[Inner, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    inner: Inner | None = None

    def __post_init__(self) -> None:
        if self.step < 0:
            raise ValueError(f"step is 0 or more, got {self.step}")


WHOLE = Outer(3, None, "b", (4, 5), (Inner(0.5), Inner(1.0, True)), {"data": 2.0}, ["x"], Inner(0.25))


def changed(**values: object) -> str:
    return json.dumps({**asdict(WHOLE), **values})


def test_what_was_written_comes_back() -> None:
    assert from_json(json.dumps(asdict(WHOLE)), Outer) == WHOLE
    small = from_json('{"step": 1, "name": "n", "kind": "a", "size": [1, 2], "inner": {"share": 1}}', Outer)
    assert small == Outer(1, "n", "a", (1, 2), inner=Inner(1.0))
    assert isinstance(small.inner, Inner)
    assert type(small.inner.share) is float
    with pytest.raises(ValueError, match="new: is nothing that this version knows"):
        from_json(changed(new=1), Outer)
    assert from_json(changed(new=1, inner={"share": 1, "more": 2}), Outer, more=True).inner == Inner(1.0)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (changed(step=None), "step: a whole number is expected, got null"),
        (changed(step=True), "step: a whole number is expected, got true"),
        (changed(step=1.0), "step: a whole number is expected, got 1.0"),
        (changed(step="1"), 'step: a whole number is expected, got "1"'),
        (changed(step=-1), "step is 0 or more, got -1"),
        (changed(name=3), "name: a text is expected, got 3"),
        (changed(kind="c"), 'kind: one of a, b is expected, got "c"'),
        (changed(size=[1]), "size: a list of 2 is expected, got [1]"),
        (changed(size=4), "size: a list is expected, got 4"),
        (changed(size=[1, None]), "size[1]: a whole number is expected, got null"),
        (changed(parts=[{"share": "x"}]), 'parts[0].share: a number is expected, got "x"'),
        (changed(parts=[{}]), "parts[0].share: is missing"),
        (changed(seconds={"data": None}), "seconds.data: a number is expected, got null"),
        (changed(seconds=[]), "seconds: an object is expected, got []"),
        (changed(words=[["\n" * 100]]), "words[0]: a text is expected, got "),
        (changed(inner=3), "inner: an object is expected, got 3"),
        (changed().replace("0.5", "1e999"), "parts[0].share: a number is expected, got Infinity"),
        (changed().replace("0.5", "NaN"), "NaN is no number"),
        ("[]", "an object is expected, got []"),
        ("null", "an object is expected, got null"),
        ("[" * 100_000, "it is nested too deeply"),
        ("{", "Expecting property name"),
        ("", "Expecting value"),
        ("9" * 5000, "Exceeds the limit"),
    ],
)
def test_what_is_of_another_type_is_one_line(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=r".+") as caught:
        from_json(text, Outer)
    assert str(caught.value).startswith(complaint)
    assert "\n" not in str(caught.value)
