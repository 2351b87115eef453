"""The DALI graph of the loader: encoded images and drawn parameters in, normalised planes out.

Only what is switched on becomes an operator; with the mirror alone the graph is decode and one pass that
crops, mirrors and normalises. Its inputs are named, `feed` says what each holds.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from data_pipeline.augment import Augmentation, Parameters
from data_pipeline.augment_pixels import GREY, batch_function
from data_pipeline.errors import DataInputError

if TYPE_CHECKING:
    import torch

# Pixel settings are stated for images of this height and grow with the image.
_REFERENCE_HEIGHT = 112
_WHOLE_NUMBERS = ("blur_window", "mirror")
Payloads = list[npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Graph:
    """What the graph depends on. stored: (height, width) of the images if all must have it, else None;
    size: (height, width) of the output; device_id: CUDA device, None for the CPU; opencv: change pixels by
    OpenCV, on the CPU alone, instead of DALI's operators.
    """

    batch_size: int
    num_threads: int
    device_id: int | None
    stored: tuple[int, int] | None
    size: tuple[int, int]
    augmentation: Augmentation
    opencv: bool

    @property
    def worked_size(self) -> tuple[int, int]:
        """(height, width) at which images are augmented: as stored, or as resized; the crop comes last."""
        return self.stored or self.size


def require_dali() -> None:
    """Raises DataInputError with the line that installs DALI if it is not here."""
    try:
        found = importlib.util.find_spec("nvidia.dali") is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise DataInputError(
            "NVIDIA DALI, which decodes the training images, is not installed: "
            "pip install nvidia-dali-cuda130 (nvidia-dali-cuda120 for CUDA 12)"
        )


def copy_output(output: Any, target: torch.Tensor) -> None:
    """Copy one output, a dense batch, into a tensor of its shape, on the tensor's current stream."""
    import torch

    stream = torch.cuda.current_stream(target.device) if target.device.type == "cuda" else None
    importlib.import_module("nvidia.dali.plugin.pytorch").feed_ndarray(
        output.as_tensor(), target, cuda_stream=stream
    )


def _dali() -> Any:
    """The package without its incomplete type stubs; imported late, it takes a second."""
    importlib.import_module("nvidia.dali.fn")
    return importlib.import_module("nvidia.dali")


def build(graph: Graph, prefetch: int) -> Any:
    """The built pipeline; outputs: float32 [n, 3, H, W], and int64 [n, 3] stored shapes if they are fixed."""
    dali = _dali()
    fn, types = dali.fn, dali.types
    pipeline = dali.Pipeline(
        batch_size=graph.batch_size,
        num_threads=graph.num_threads,
        device_id=graph.device_id,
        prefetch_queue_depth=prefetch,
    )
    with pipeline:
        # The arrays are parts of the memory map; the loader keeps them until their batch is out.
        encoded = fn.external_source(name="encoded", dtype=types.UINT8, ndim=1, no_copy=True)
        settings = {
            name: fn.external_source(
                name=name, dtype=types.INT32 if name in _WHOLE_NUMBERS else types.FLOAT, ndim=dimensions
            )
            for name, dimensions in _inputs(graph.augmentation).items()
        }
        mirror = settings.pop("mirror", 0)
        images = fn.decoders.image(
            encoded, device="cpu" if graph.device_id is None else "mixed", output_type=types.RGB
        )
        if graph.stored is None:
            images = fn.resize(images, size=list(graph.size))
        if settings and graph.opencv:
            images = fn.python_function(
                images,
                *settings.values(),
                function=batch_function(list(settings)),
                batch_processing=True,
                output_layouts="HWC",
            )
        elif settings:
            images = _operators(fn, images, settings, graph.worked_size)
        planes = fn.crop_mirror_normalize(
            images,
            dtype=types.FLOAT,
            output_layout="CHW",
            crop=list(graph.size),
            mirror=mirror,
            mean=[127.5] * 3,
            std=[128.0] * 3,
        )
        shapes = () if graph.stored is None else (fn.peek_image_shape(encoded),)
        pipeline.set_outputs(planes, *shapes)
    pipeline.build()
    return pipeline


def _inputs(a: Augmentation) -> dict[str, int]:
    """Names of the settings that are fed, with their number of dimensions for one image."""
    return {
        **({"low_size": 1} if a.low_resolution else {}),
        **({"matrix": 2} if a.moves else {}),
        **({"blur_sigma": 0, "blur_window": 0} if a.blur else {}),
        **({"brightness": 0, "contrast": 0, "saturation": 0} if a.colours else {}),
        **({"erase_anchor": 1, "erase_shape": 1} if a.erase else {}),
        **({"mirror": 0} if a.flip else {}),
    }


def _operators(fn: Any, images: Any, settings: dict[str, Any], size: tuple[int, int]) -> Any:
    """DALI's operators for the settings that are given."""
    if "low_size" in settings:
        images = fn.resize(fn.resize(images, size=settings["low_size"]), size=list(size))
    if "matrix" in settings:
        images = fn.warp_affine(images, matrix=settings["matrix"], fill_value=0.0)
    if "blur_sigma" in settings:
        images = fn.gaussian_blur(images, sigma=settings["blur_sigma"], window_size=settings["blur_window"])
    if "brightness" in settings:
        colour = {name: settings[name] for name in ("brightness", "contrast", "saturation")}
        images = fn.color_twist(images, **colour)
    if "erase_shape" in settings:
        anchor, shape = settings["erase_anchor"], settings["erase_shape"]
        images = fn.erase(
            images, anchor=anchor, shape=shape, normalized=True, axis_names="HW", fill_value=float(GREY)
        )
    return images


def feed(pipeline: Any, graph: Graph, payloads: Payloads, parameters: Parameters) -> None:
    """Hand one batch to the pipeline's inputs."""
    pipeline.feed_input("encoded", payloads)
    values = _values(parameters, graph.worked_size)
    for name in _inputs(graph.augmentation):
        pipeline.feed_input(name, values[name])


def _values(p: Parameters, size: tuple[int, int]) -> dict[str, npt.NDArray[Any]]:
    """Every setting for n images of this (height, width)."""
    unit = np.float32(size[0] / _REFERENCE_HEIGHT)
    # A window of one pixel leaves the image as it is, whatever the deviation.
    sigma = np.where(p.blur > 0, p.blur * unit, np.float32(1))
    return {
        "low_size": np.maximum(np.rint(p.resolution[:, None] * np.array(size, dtype=np.float32)), 1),
        "matrix": warp_matrices(p, size),
        "blur_sigma": sigma,
        "blur_window": np.where(p.blur > 0, 2 * np.ceil(3 * sigma) + 1, 1).astype(np.int32),
        "brightness": p.brightness,
        "contrast": p.contrast,
        "saturation": p.saturation,
        "erase_anchor": p.erase_anchor,
        "erase_shape": p.erase_shape,
        "mirror": p.mirror.astype(np.int32),
    }


def warp_matrices(p: Parameters, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """[n, 2, 3]: where each output pixel (x, y) comes from, when the image is rotated and scaled about its
    centre c and then shifted by t: source = R^-1 (output - c - t) / scale + c. Angles are counter-clockwise
    as seen.
    """
    height, width = size
    angle = np.radians(p.rotation.astype(np.float64))
    cosine, sine = np.cos(angle) / p.scale, np.sin(angle) / p.scale
    inverse = np.stack([np.stack([cosine, -sine], 1), np.stack([sine, cosine], 1)], axis=1)
    centre = np.array([width / 2, height / 2])
    shift = p.shift.astype(np.float64) * (height / _REFERENCE_HEIGHT)
    offset = centre - np.einsum("nij,nj->ni", inverse, centre + shift)
    return np.concatenate([inverse, offset[:, :, None]], axis=2).astype(np.float32)


def decodes(payload: npt.NDArray[np.uint8]) -> bool:
    """Whether DALI can decode this one image."""
    dali = _dali()
    fn, types = dali.fn, dali.types
    pipeline = dali.Pipeline(batch_size=1, num_threads=1, device_id=None)
    with pipeline:
        encoded = fn.external_source(name="encoded", dtype=types.UINT8, ndim=1)
        pipeline.set_outputs(fn.decoders.image(encoded, device="cpu", output_type=types.RGB))
    pipeline.build()
    try:
        pipeline.feed_input("encoded", [payload])
        pipeline.run()
    except RuntimeError:
        return False
    return True
