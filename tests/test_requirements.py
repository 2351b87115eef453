"""What setup.cfg requires is what the packages import."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("trainer", "partial_fc", "data_pipeline", "launch")
# Where a distribution's module has another name.
MODULES = {
    "opencv-python-headless": "cv2",
    "nvidia-dali-cuda130": "nvidia",
    "pillow": "PIL",
    "tomli-w": "tomli_w",
}


def imported() -> set[str]:
    """The first names of all modules that the four packages import, by texts like "nvidia.dali" too."""
    names: set[str] = set()
    for file in (file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Constant) and re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", str(node.value)):
                names.add(str(node.value).partition(".")[0])
    return names


def test_every_requirement_is_imported_and_scikit_learn_is_none() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    lines = (line.strip() for line in settings["options"]["install_requires"].splitlines())
    required = [re.split(r"[<>=; ]", line)[0] for line in lines if line and not line.startswith("#")]
    found = imported()
    assert {"torch", "tyro", "numpy"} <= set(required)
    assert [name for name in required if MODULES.get(name, name) not in found] == []
    assert "scikit-learn" not in required
    assert "sklearn" not in found
    assert not found & {"tests", "benchmarks"}
    assert {"json", "pathlib"} <= found & set(sys.stdlib_module_names)
