"""Horovod's ranks on this machine: started by horovodrun, or by hand where one of them is to die."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import patience_s

ROOT = Path(__file__).parents[1]


def horovodrun(world_size: int, *words: str, deadline_s: float = 120.0) -> None:
    """Run `python WORDS` on so many ranks; AssertionError with what they said if one fails."""
    launcher = str(Path(sys.executable).with_name("horovodrun"))
    command = [launcher, "--gloo", "-np", str(world_size), sys.executable, *words]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=patience_s(deadline_s),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def rendezvous(world_size: int, timeout_s: int) -> Iterator[list[dict[str, str]]]:
    """Each rank's environment, while the server by which they meet runs here: nobody ends the others.

    timeout_s: Horovod's own, after which it gives up a process that is dead or stopped.
    """
    from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
    from horovod.runner.gloo_run import create_slot_env_vars
    from horovod.runner.http.http_server import RendezvousServer

    server = RendezvousServer()
    port = server.start()
    slots = get_host_assignments(parse_hosts(f"localhost:{world_size}"), world_size)
    server.init(slots)
    common = {
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": "127.0.0.1",
        "HOROVOD_GLOO_RENDEZVOUS_PORT": str(port),
        "HOROVOD_GLOO_TIMEOUT_SECONDS": str(timeout_s),
        "HOROVOD_GLOO_IFACE": "lo",
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_CPU_OPERATIONS": "gloo",
    }
    try:
        yield [common | create_slot_env_vars(slot) for slot in slots]
    finally:
        server.stop()
