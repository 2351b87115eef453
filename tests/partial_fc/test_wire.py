"""What a step puts on the wire, by the counters of a cable between two network namespaces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.namespaces import two_hosts
from tests.waiting import patience_s

BATCH, DIM, STEPS = 64, 512, 20
ALLOWED = 1.05


@pytest.mark.namespaces
def test_a_step_sends_hardly_more_than_it_must() -> None:
    """The least: embeddings and labels gathered, three numbers an image, gradients back, in float32."""
    with two_hosts() as hosts:
        ranks = [
            subprocess.Popen(
                host.command(sys.executable, "-m", "tests.partial_fc.wire_rank", str(rank), hosts[0].address,
                             host.device, str(BATCH), str(DIM), str(STEPS)),
                env=os.environ | {"GLOO_SOCKET_IFNAME": host.device},
                cwd=Path(__file__).parents[2],
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank, host in enumerate(hosts)
        ]  # fmt: skip
        try:
            said = [rank.communicate(timeout=patience_s(120))[0] for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0]
    least = STEPS * BATCH * (8 * DIM + 8 + 12)
    for one in map(json.loads, said):
        assert least <= one["counted"] <= ALLOWED * least
        assert one["counted"] <= one["on_the_cable"] <= ALLOWED * least, "headers and all"
