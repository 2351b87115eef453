"""One rank of test_horovod.py, under horovodrun: python -m tests.partial_fc.horovod_rank FOLDER.

Trains the cases of FOLDER/cases and writes what came out as FOLDER/RANK (pickles of the test's own).
"""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import horovod.torch as hvd
import pytest
import torch

from partial_fc import Horovod
from partial_fc.errors import HeadInputError
from tests.partial_fc.test_exactness import STEPS, train

if __name__ == "__main__":
    torch.set_num_threads(1)
    world_size = int(os.environ["HOROVOD_SIZE"])
    others = hvd.ProcessSet(range(1, world_size))
    hvd.init(process_sets=[others])
    folder = Path(sys.argv[1])
    communicator = Horovod(deadline_s=1000)
    if hvd.rank() == 0:
        with pytest.raises(HeadInputError, match="rank 0 is not in the process set"):
            Horovod(others)
    else:
        among = Horovod(others)
        expected = torch.arange(1, world_size)
        assert (among.rank, among.world_size) == (hvd.rank() - 1, world_size - 1)
        assert torch.equal(among.all_gather(torch.tensor(hvd.rank())), expected)
    # The bits of a type must come through whole, whichever Horovod itself knows.
    for dtype in (torch.bool, torch.bfloat16, torch.float64, torch.int64):
        rows = [torch.arange(6).view(2, 3).add(rank).remainder(3).to(dtype) for rank in range(hvd.size())]
        assert torch.equal(communicator.all_gather(rows[hvd.rank()]), torch.stack(rows))
        sent = torch.stack([torch.stack(rows)] * hvd.size())  # [from, to, 2, 3]
        assert torch.equal(communicator.all_to_all(sent[hvd.rank()]), sent[:, hvd.rank()])
    results = train(pickle.loads((folder / "cases").read_bytes()), STEPS, communicator)
    (folder / str(hvd.rank())).write_bytes(pickle.dumps(results))
