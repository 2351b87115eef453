"""The house: four packages whose arrows point down, rooms in the data package, and no circle anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.house import arrows_of, between, circles

ROOT = Path(__file__).parents[1]

# From the ground up: what is named in a row knows only what stands in rows before it.
PACKAGES = [["partial_fc", "data_pipeline"], ["trainer"], ["launch"]]
ROOMS = [
    ["errors"],
    ["files"],
    ["records", "images", "order"],
    ["augment", "sets", "pairs"],
    ["loader", "pack"],
    ["rendered", "inspection"],
    ["commands", "mxnet_recordio"],
]


def _upwards(floors: list[list[str]], arrows: list[tuple[str, str, str, str]]) -> list[str]:
    """The arrows that do not point to a lower floor; KeyError for what stands on none."""
    floor = {name: number for number, names in enumerate(floors) for name in names}
    return [f"{name} → {other}" for here, there, name, other in arrows if floor[there] >= floor[here]]


def test_no_module_of_the_four_packages_imports_itself_through_others() -> None:
    arrows = arrows_of(ROOT, [name for row in PACKAGES for name in row])
    assert len(arrows) > 200
    assert circles(arrows) == []


def test_packages_know_only_those_below() -> None:
    arrows = arrows_of(ROOT, [name for row in PACKAGES for name in row])
    assert _upwards(PACKAGES, list(between(arrows, 1))) == []


def test_rooms_of_the_data_package_know_only_those_below() -> None:
    arrows = arrows_of(ROOT, ["data_pipeline"])
    inner = [
        (here.partition(".")[2], there.partition(".")[2], name, other)
        for here, there, name, other in between(arrows, 2)
        if here != "data_pipeline"  # the package's own names, gathered from all rooms
    ]
    assert all(there for _, there, _, _ in inner), "a room takes something from the whole package"
    assert _upwards(ROOMS, inner) == []


def test_the_data_package_holds_rooms_and_little_else() -> None:
    files = {path.stem for path in (ROOT / "data_pipeline").glob("*.py")}
    assert files == {"__init__", "commands", "errors", "mxnet_recordio"}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """below and above, each with modules a and b; above's import below's."""
    for name, text in {
        "below/__init__.py": "",
        "below/a.py": "import json\n",
        "below/b.py": "from below.a import x\n",
        "above/__init__.py": "",
        "above/a.py": "from below import a\n",
        "above/b.py": "def late():\n    import above.a\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_sound_house_has_no_circle_and_no_arrow_up(house: Path) -> None:
    arrows = arrows_of(house, ["below", "above"])
    assert arrows["below.b"] == {"below.a"}
    assert arrows["above.a"] == {"below", "below.a"}
    assert circles(arrows) == []
    assert _upwards([["below"], ["above"]], list(between(arrows, 1))) == []


@pytest.mark.parametrize(
    "line",
    ["import below.b", "from below.b import y", "from .b import y", "def f():\n    from below import b"],
)
def test_a_circle_is_found_however_it_is_written(house: Path, line: str) -> None:
    (house / "below" / "a.py").write_text(line + "\n")
    assert circles(arrows_of(house, ["below", "above"])) == [["below.a", "below.b"]]


def test_an_arrow_that_points_up_is_found(house: Path) -> None:
    (house / "below" / "a.py").write_text("import above.b as other\n")
    arrows = list(between(arrows_of(house, ["below", "above"]), 1))
    assert _upwards([["below"], ["above"]], arrows) == ["below.a → above.b"]
