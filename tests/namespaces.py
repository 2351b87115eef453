"""Two network namespaces joined by a cable of their own: as two machines are, as far as sockets can tell."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Host:
    """One end: what runs in it sees this address and this device alone."""

    name: str
    device: str
    address: str

    def command(self, *words: str) -> list[str]:
        """The same command, run in the namespace."""
        return ["ip", "netns", "exec", self.name, *words]


def available() -> bool:
    """Whether namespaces can be made here: it takes root and iproute2."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"cosface-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "delete", name], check=False)
    return made


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Made, joined and, afterwards, gone."""
    number = os.getpid()
    hosts = tuple(
        Host(f"cosface-{number}-{end}", f"c{end}{number}"[:15], f"10.77.0.{end + 1}") for end in range(2)
    )
    first, second = hosts
    try:
        for host in hosts:
            _ip("netns", "add", host.name)
        _ip("link", "add", first.device, "netns", first.name, "type", "veth",
            "peer", "name", second.device, "netns", second.name)  # fmt: skip
        for host in hosts:
            _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", host.device)
            _ip("-n", host.name, "link", "set", host.device, "up")
            _ip("-n", host.name, "link", "set", "lo", "up")
        yield first, second
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "delete", host.name], capture_output=True, check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
