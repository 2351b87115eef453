"""The imports of the project's own modules, read from their text: who knows whom."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

Arrows = Mapping[str, frozenset[str]]


def arrows_of(root: Path, packages: Iterable[str]) -> dict[str, frozenset[str]]:
    """The modules of each package below root, and which of them each imports, anywhere in its text.

    Imports that stand inside functions count as those at the top do: late or early, one module knows the
    other. `import a.b` is an arrow to a.b alone, `from a import b` one to a too, whose `__init__` it names.
    """
    files = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for package in packages
        for path in sorted((root / package).rglob("*.py"))
    }
    return {name: frozenset((_imported(name, path) & files.keys()) - {name}) for name, path in files.items()}


def _imported(name: str, path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(name, path, node)
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def _absolute(name: str, path: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parents = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    return ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [node.module])])


def circles(arrows: Arrows) -> list[list[str]]:
    """The groups of modules that import each other, directly or through others; each sorted."""
    reached = {name: _reachable(arrows, name) for name in arrows}
    groups = {
        tuple(sorted({name} | {other for other in reached[name] if name in reached[other]}))
        for name in arrows
        if name in reached[name]
    }
    return [list(group) for group in sorted(groups)]


def _reachable(arrows: Arrows, start: str) -> set[str]:
    seen: set[str] = set()
    left = list(arrows[start])
    while left:
        name = left.pop()
        if name not in seen:
            seen.add(name)
            left.extend(arrows[name])
    return seen


def between(arrows: Arrows, depth: int) -> Iterator[tuple[str, str, str, str]]:
    """(room, other room, module, imported module) of each arrow that leaves a room.

    A room is the first `depth` parts of a module's name.
    """
    for name, imported in sorted(arrows.items()):
        for other in sorted(imported):
            here, there = (".".join(part.split(".")[:depth]) for part in (name, other))
            if here != there:
                yield here, there, name, other
