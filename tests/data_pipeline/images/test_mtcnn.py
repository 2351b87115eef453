"""MTCNN where Python has no `imghdr` any more, as from 3.13 on, and where it has it and warns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]

WITHOUT_IMGHDR = """
import importlib.abc, sys
class Gone(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "imghdr":
            raise ModuleNotFoundError("No module named 'imghdr'", name=name)
sys.meta_path.insert(0, Gone())
"""
FIND = """
import sys
import numpy as np
from data_pipeline.images.align import FaceAligner
from data_pipeline.images.decode import decode_image
image = decode_image(open(sys.argv[1], "rb").read())
print(np.round(FaceAligner().find_points(image)).astype(int).tolist())
print("imghdr" in sys.modules)
"""


def _run(script: str, picture: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error:'imghdr' is deprecated:DeprecationWarning", "-c", script, str(picture)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.mtcnn
@pytest.mark.real_faces
def test_a_face_is_found_with_and_without_imghdr(shared_data: Path) -> None:
    picture = shared_data / "lfw" / "images" / "Amber_Tamblyn" / "Amber_Tamblyn_0001.jpg"
    with_it, without = _run(FIND, picture), _run(WITHOUT_IMGHDR + FIND, picture)
    assert with_it == without
    # The stand-in does not stay: whoever wants the real module still gets it.
    assert with_it[1] == "False"
    left, right = json.loads(with_it[0])[:2]
    assert 30 < left[0] < right[0] < 120
