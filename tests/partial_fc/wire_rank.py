"""One rank of test_wire.py: steps of the head, and what its network device says went through it.

python -m tests.partial_fc.wire_rank RANK ADDRESS_OF_RANK_0 DEVICE BATCH DIM STEPS
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from partial_fc import CosFace, PartialFC
from partial_fc.communicator import Counting, TorchDistributed


def sent(device: str) -> int:
    lines = (line.split() for line in Path("/proc/net/dev").read_text().splitlines())
    (numbers,) = (words[1:] for words in lines if words[0] == f"{device}:")
    return int(numbers[8])


def main(rank: int, address: str, device: str, batch: int, dim: int, steps: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://{address}:29500", timedelta(seconds=60), rank=rank, world_size=2)
    communicator = Counting(TorchDistributed())
    head = PartialFC(1000, dim, CosFace(), communicator=communicator)
    generator = torch.Generator().manual_seed(rank)

    def step() -> None:
        embeddings = torch.randn(batch, dim, generator=generator, requires_grad=True)
        head(embeddings, torch.randint(1000, (batch,), generator=generator)).backward()
        head.step(0.1)

    step()
    dist.barrier()
    communicator.sent_bytes, before = 0, sent(device)
    for _ in range(steps):
        step()
    dist.barrier()
    print(json.dumps({"counted": communicator.sent_bytes, "on_the_cable": sent(device) - before}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:4], *map(int, sys.argv[4:]))
