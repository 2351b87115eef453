"""`cosface bench head` beside insightface's PartialFC_V2, from a checkout of arcface_torch of your own.

    python benchmarks/head_beside_arcface_torch.py --peer /path/to/recognition/arcface_torch --classes 93432 …

It runs the checkout's `partial_fc_v2.py` and `losses.py`, without a GPU with their `.cuda()` calls left out:
the code of a folder that you name, which is why this file is no part of the installed package. All other
options are those of `cosface bench head`.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from launch.bench.head import HeadBenchOptions, head
from launch.bench.rivals import MARGIN, RIVALS, SCALE, sgd
from launch.bench.row import Case
from launch.cli import guarded
from launch.errors import LaunchInputError
from trainer.command_line import parse

NAME = "arcface_torch"
FILES = ("partial_fc_v2.py", "losses.py")


@dataclass(frozen=True)
class Options(HeadBenchOptions):
    """Measures the classifier beside the PartialFC_V2 of a checkout, whose code is run."""

    peer: Path = Path(NAME)
    """The checkout's folder arcface_torch, where partial_fc_v2.py is."""


class Peer:
    """PartialFC_V2; a rival as launch.bench.rivals has them."""

    def __init__(self, case: Case, device: torch.device) -> None:
        folder = Path(case.peer)
        source = module_of(folder / "partial_fc_v2.py", device)
        losses = module_of(folder / "losses.py", device)
        self._head = source.PartialFC_V2(
            losses.CosFace(SCALE, MARGIN), case.embedding_dim, case.classes, case.sample_rate, False
        ).to(device)
        self._autocast = case.dtype == "bfloat16"
        self._device = device.type
        self._optimiser = sgd(self._head.parameters())
        self.state_bytes = 2 * sum(p.numel() * p.element_size() for p in self._head.parameters())
        self.wire_bytes = 0

    def step(self, embeddings: Tensor, labels: Tensor) -> float:
        """Forward, backward and update; returns the loss."""
        # Its own switch to half precision is CUDA's: on other devices torch's autocast does the same.
        with torch.autocast(self._device, torch.bfloat16, enabled=self._autocast):
            loss = self._head(embeddings, labels.clone())
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        return float(loss.item())


def module_of(file: Path, device: torch.device) -> ModuleType:
    """A file of the checkout as a module; without a GPU its calls of .cuda() are left out."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise LaunchInputError(
            f"--peer {file.parent}: {file.name} cannot be read: {error.strerror}"
        ) from None
    if device.type != "cuda":
        text = text.replace(".cuda()", "").replace(
            "torch.cuda.amp.autocast(", "torch.autocast('cpu', enabled="
        )
    spec = importlib.util.spec_from_loader(f"arcface_torch_{file.stem}", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    exec(compile(text, str(file), "exec"), module.__dict__)
    return module


# Here and not in main: each rank's process imports this file as it begins.
RIVALS[NAME] = Peer


def main(words: list[str]) -> int:
    """Run it; returns the exit code."""

    def work() -> int:
        prog = f"python {Path(__file__).name}"
        options = parse(Options, words, prog=prog, description=Options.__doc__)
        for name in FILES:
            if not (options.peer / name).is_file():
                raise LaunchInputError(f"--peer {options.peer}: has no {name}; a folder arcface_torch has")
        return head(options, {NAME: str(options.peer)})

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
