"""`cosface evaluate`: a trained run on `.bin` pair sets, or embeddings made elsewhere on a list of pairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainer.errors import TrainerInputError

if TYPE_CHECKING:
    from trainer.evaluation.verification import VerificationResult


@dataclass(frozen=True)
class EvaluateOptions:
    """Give --run and --verification, or --embeddings, --paths and --pairs."""

    run: Path | None = None
    """Folder of a training run; its newest checkpoint is evaluated, averaged weights where it has them."""
    verification: tuple[Path, ...] = ()
    """Pair sets (.bin files) to evaluate the run on."""
    step: int | None = None
    """Evaluate the checkpoint of this step instead of the newest."""
    embeddings: Path | None = None
    """Embeddings made elsewhere: a .npy file of floats [images, dim]."""
    paths: Path | None = None
    """Text file whose line k is the path of the image of embedding k."""
    pairs: Path | None = None
    """LFW's pairs.txt, or any list that `cosface pairs` reads, for the embeddings."""
    json: Path | None = None
    """File to write the figures to."""
    report: Path | None = None
    """Folder to write report.html, report.json, ROC and score pictures to."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a CUDA device if there is one."""
    batch_size: int = 64
    """Images embedded at once; the command is one process, whatever the run's ranks were."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, got {self.batch_size}")


def evaluate(options: EvaluateOptions) -> int:
    """Print the table and write what was asked for; returns 0.

    Raises TrainerInputError, DataInputError, TrainingFailed.
    """
    _check_form(options)
    # Late: `--help` and a wrong line should not wait for torch.
    from rich.console import Console

    from trainer.evaluation.report import results_table, write_json, write_report

    source, results = _embeddings(options) if options.embeddings else _run(options)
    console = Console()
    console.print(results_table(results, title=source))
    if options.json is not None:
        write_json(results, options.json)
    if options.report is not None:
        page = write_report(results, options.report, "Face verification", note=source)
        console.print(f"report: {page}", soft_wrap=True, markup=False, highlight=False)
    return 0


def _check_form(options: EvaluateOptions) -> None:
    elsewhere = {"embeddings": options.embeddings, "paths": options.paths, "pairs": options.pairs}
    missing = [f"--{name}" for name, value in elsewhere.items() if value is None]
    of_run = options.run is not None or options.step is not None or bool(options.verification)
    if len(missing) < len(elsewhere):
        if of_run:
            raise TrainerInputError(
                "--run, --step and --verification do not go with --embeddings, --paths and --pairs"
            )
        if missing:
            raise TrainerInputError(
                f"--embeddings, --paths and --pairs go together; missing {', '.join(missing)}"
            )
    elif options.run is None:
        raise TrainerInputError(
            "nothing to evaluate: give --run DIR --verification FILE.bin …, "
            "or --embeddings FILE.npy --paths FILE.txt --pairs PAIRS.txt"
        )
    elif not options.verification:
        raise TrainerInputError("--verification needs one or more .bin files; `cosface pairs` makes one")


def _embeddings(options: EvaluateOptions) -> tuple[str, dict[str, VerificationResult]]:
    from trainer.evaluation.lfw import evaluate_embeddings

    if options.embeddings is None or options.paths is None or options.pairs is None:
        raise TrainerInputError("--embeddings, --paths and --pairs go together")
    result = evaluate_embeddings(options.embeddings, options.paths, options.pairs)
    return f"{options.embeddings.name} on {options.pairs.name}", {options.embeddings.stem: result}


def _run(options: EvaluateOptions) -> tuple[str, dict[str, VerificationResult]]:
    import torch

    from trainer.evaluation.backbone import load_backbone
    from trainer.evaluation.run import check_pair_sets, evaluate_sets

    if options.run is None:
        raise TrainerInputError("--run must be given")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise TrainerInputError("--device cuda: no CUDA device is there; use --device cpu")
    wanted = options.device
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(wanted)
    check_pair_sets(options.verification)
    backbone = load_backbone(options.run, device, options.step)
    results = evaluate_sets(
        backbone.module, options.verification, backbone.image_size, device, batch_size=options.batch_size
    )
    return f"{options.run}: {backbone.describe()}", results
