"""`make demo`: the main job from beginning to end, on rendered faces or on the user's own.

Faces → record folder → untrained network on pairs of unseen people → CosFace on two ranks, the class matrix
split between them → the trained network on the same pairs. What is finished stays: the same command goes on
where it was stopped, and shows the result again at once when there is one.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_pipeline.files.typed_json import from_json
from launch.cli import guarded
from launch.errors import LaunchInputError
from trainer.run_files import RANKS_FILE, STATUS_FILE, read_ranks, read_status

RANKS = 2
CONFIGS = Path(__file__).resolve().parents[1] / "configs"
RENDERED = "rendered faces"
STAGES = ("faces", "untrained", "training", "trained")


@dataclass(frozen=True)
class DemoOptions:
    """Faces, records, CosFace on two ranks, and verification of people never seen in training."""

    run: Path = Path("demo-run")
    """Folder that the demo writes to; each source of faces has its own in it."""
    data: Path | None = None
    """Your images (a folder per person) or an insightface folder; rendered faces when not given."""
    minutes: float = 3.0
    """About how long to train on your own data; rendered faces have a recipe of their own."""

    def __post_init__(self) -> None:
        if not 0.1 <= self.minutes <= 1e5:
            raise ValueError(f"minutes must be at least 0.1, got {self.minutes:g}")


@dataclass(frozen=True)
class Kept:
    """The content of demo.json."""

    source: str
    about: str = ""
    config: str = ""
    settings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class Progress:
    """What is kept between two starts of one demo, in demo.json: where its faces are from, what it took."""

    folder: Path
    source: str
    about: str = ""
    config: str = ""
    settings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, source: str) -> Progress:
        """Raises LaunchInputError if the folder holds a demo of other faces, or a demo.json that is none."""
        file = folder / "demo.json"
        if not file.exists():
            return cls(folder, source)
        try:
            kept = from_json(file.read_text(encoding="utf-8"), Kept)
        except (OSError, ValueError) as error:
            raise LaunchInputError(
                f"{file}: is not what the demo writes there: {error}; remove the folder (rm -r {folder}) to "
                "start again"
            ) from None
        if kept.source != source:
            raise LaunchInputError(
                f"{folder}: holds the demo of {kept.source}, not of {source}; "
                f"remove it (rm -r {folder}) or choose another folder: make demo DEMO_RUN=…"
            )
        return cls(folder, **vars(kept))

    def save(self) -> None:
        """Write demo.json, whole or not at all."""
        from data_pipeline.files.atomic import write_file

        kept = {name: value for name, value in asdict(self).items() if name != "folder"}
        write_file(self.folder / "demo.json", json.dumps(kept, indent=1) + "\n")

    @contextmanager
    def stage(self, name: str, says: str) -> Iterator[None]:
        """Say what is done and keep the seconds that it took, over several starts if it was stopped."""
        print(f"\n{STAGES.index(name) + 1}/{len(STAGES)} {says}", flush=True)
        begun = time.monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - begun, 1)
        self.save()


def demo(options: DemoOptions) -> int:
    """Run what is still to be done, show the result and return the exit code."""
    name = "rendered" if options.data is None else options.data.resolve().name or "data"
    source = RENDERED if options.data is None else str(options.data.resolve())
    progress = Progress.of(options.run / name, source)
    if finished(progress.folder):
        print(f"{progress.folder} is finished; its result again. To start over: rm -r {progress.folder}")
    else:
        faces(options.data, options.minutes, progress)
        untrained(progress)
        if code := training(progress):
            return code
        trained(progress)
    show(progress)
    return 0


def finished(folder: Path) -> bool:
    """Whether the last thing that the demo writes is there."""
    return (folder / "report" / "report.html").exists()


def faces(data: Path | None, minutes: float, progress: Progress) -> None:
    """Make the record folder `train` and the pairs `unseen.bin`, and settle the training's settings."""
    folder, train, pairs = progress.folder, progress.folder / "train", progress.folder / "unseen.bin"
    if progress.config:
        return
    what = "rendered people" if data is None else str(data)
    with progress.stage("faces", f"faces: {what} → records to train on, pairs of others to test on"):
        if data is None:
            from launch.demo_rendered import RenderedSet

            progress.about = RenderedSet().write(train, pairs)
            progress.config = "demo.toml"
        else:
            from launch.demo_budget import settings_for
            from launch.demo_own import write_own

            progress.about = write_own(data, folder, train, pairs)
            progress.settings = settings_for(CONFIGS / "demo-own.toml", train, 60 * minutes, RANKS)
            progress.config = "demo-own.toml"
        print(progress.about)


def arguments(progress: Progress) -> list[str]:
    """The training's options, as they stand after `cosface launch local --processes 2 --`."""
    return [
        *("--config", os.path.relpath(CONFIGS / progress.config)),
        *progress.settings,
        *("--run", str(progress.folder / "run")),
        *("--data.train", str(progress.folder / "train")),
    ]


def untrained(progress: Progress) -> None:
    """Evaluate the network with its first weights, as training will start from them."""
    from trainer.backbones import make_backbone
    from trainer.check import describe_model
    from trainer.config import load_config
    from trainer.data import open_set
    from trainer.evaluation.report import write_json

    if (progress.folder / "untrained.json").exists():
        return
    with progress.stage("untrained", "the untrained network on pairs of people it will never see"):
        config = load_config(arguments(progress))
        with closing(open_set(config)) as dataset:
            model = describe_model(config, dataset)
        network = make_backbone(model.backbone, model.embedding_dim, model.image_size, model.seed).eval()
        write_json(
            evaluated(network, model.image_size, progress), progress.folder / "untrained.json", curve=True
        )


def training(progress: Progress) -> int:
    """Train with the command that a user would give; return its exit code."""
    from launch.commands import launch

    command = ["local", "--processes", str(RANKS), "--", *arguments(progress)]
    with progress.stage("training", f"training: {shlex.join(['cosface', 'launch', *command])}"):
        return launch(command)


def trained(progress: Progress) -> None:
    """Evaluate the trained network on the same pairs and write the report with both."""
    import torch

    from trainer.evaluation.backbone import load_backbone
    from trainer.evaluation.report import write_report

    folder = progress.folder
    with progress.stage("trained", "the trained network on the same pairs"):
        backbone = load_backbone(folder / "run", torch.device("cpu"))
        after = evaluated(backbone.module, backbone.image_size, progress)
        before = figures(folder / "untrained.json", "unseen")
        write_report(
            {"trained": after["unseen"]},
            folder / "report",
            "cosface demo: people never seen in training",
            note=progress.about,
            beside={"untrained": before},
        )


def evaluated(network: Any, image_size: tuple[int, int], progress: Progress) -> Any:
    """The figures of `unseen.bin` under the name "unseen"."""
    import torch

    from trainer.evaluation.run import evaluate_sets

    return evaluate_sets(network, [progress.folder / "unseen.bin"], image_size, torch.device("cpu"))


def figures(file: Path, name: str) -> Any:
    """One set's result of a file of results. Raises TrainerInputError, LaunchInputError naming the file."""
    from trainer.evaluation.report import read_json

    results = read_json(file)
    if name not in results:
        raise LaunchInputError(f"{file}: holds no result named {name}; remove the file and start again")
    return results[name]


def show(progress: Progress) -> None:
    """Print the table, the ranks' classes, the seconds, where things lie and what to try next."""
    from rich.console import Console

    from trainer.evaluation.report import results_table

    folder, console = progress.folder, Console()
    before = figures(folder / "untrained.json", "unseen")
    after = figures(folder / "report" / "report.json", "trained")
    console.print()
    console.print(
        results_table({"untrained": before, "trained": after}, title="people never seen in training")
    )
    print(f"\n{progress.about}")
    if progress.source != RENDERED:
        print("A short run on a small set gives a small set's accuracy; MINUTES=… trains longer.")
    print(f"class matrix: {'; '.join(class_ranges(folder / 'run' / RANKS_FILE))}")
    seconds = [f"{name} {progress.seconds.get(name, 0):.0f}" for name in STAGES]
    print(f"seconds: {', '.join(seconds)}, in all {sum(progress.seconds.values()):.0f}")
    print(f"ROC: {folder / 'report' / 'roc.png'}   page: {folder / 'report' / 'report.html'}")
    steps = read_status(folder / "run" / STATUS_FILE).step
    longer = arguments(progress)
    if "--training.steps" in longer:
        at = longer.index("--training.steps")
        del longer[at : at + 2]
    longer += ["--training.steps", str(2 * steps)]
    pairs = ["--verification", str(folder / "unseen.bin")]
    commands = (
        ["inspect", str(folder / "train")],
        ["evaluate", "--run", str(folder / "run"), *pairs, "--report", "my-report"],
        ["launch", "local", "--processes", str(RANKS), "--", *longer],
    )
    cosface = str(Path(sys.executable).with_name("cosface"))
    print("\nnext (the last goes on training from the last checkpoint):")
    for command in commands:
        print(f"  {shlex.join([os.path.relpath(cosface), *command])}")
    print("  make demo DATA=FOLDER    on your own images: a folder per person, or an insightface folder")


def class_ranges(file: Path) -> list[str]:
    """What each rank held of the class matrix, in words."""
    return [
        f"rank {owned.rank} has classes {owned.classes[0]}–{owned.classes[1] - 1}"
        for owned in read_ranks(file).ranks
    ]


def main(argv: list[str] | None = None) -> int:
    """Run the demo; return the exit code."""
    from trainer.command_line import parse

    def work() -> int:
        words = sys.argv[1:] if argv is None else argv
        return demo(parse(DemoOptions, words, prog="python -m launch.demo", description=DemoOptions.__doc__))

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
