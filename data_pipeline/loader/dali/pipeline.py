"""The DALI graph of the loader: encoded images and drawn parameters in, normalised planes out.

Only what is switched on becomes an operator; with the mirror alone the graph is decode and one pass that
crops, mirrors and normalises. Its inputs are named, `feed` says what each holds. On the CPU the graph decodes
alone: its operators take several times as long there as `augment/on_cpu.py` and `augment/normalise.py` do.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from data_pipeline.augment.on_cpu import BLACK, GREY
from data_pipeline.augment.pixel_settings import inputs, settings_of
from data_pipeline.augment.settings import Augmentation, Parameters
from data_pipeline.errors import DataInputError
from data_pipeline.images.resampling import TRIANGULAR

if TYPE_CHECKING:
    import torch

_WHOLE_NUMBERS = ("jpeg_quality", "low_down", "low_up", "blur_window", "mirror")
Payloads = list[npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Graph:
    """What the graph depends on. stored: (height, width) of the images if all must have it, else None;
    size: (height, width) of the output; device_id: CUDA device, None for the CPU.
    """

    batch_size: int
    num_threads: int
    device_id: int | None
    stored: tuple[int, int] | None
    size: tuple[int, int]
    augmentation: Augmentation

    @property
    def worked_size(self) -> tuple[int, int]:
        """(height, width) at which images are augmented: as stored, or as resized; the crop comes last."""
        return self.stored or self.size


def is_installed() -> bool:
    """Whether DALI is here."""
    try:
        return importlib.util.find_spec("nvidia.dali") is not None
    except ModuleNotFoundError:
        return False


def require_dali() -> None:
    """Raises DataInputError with the line that installs DALI if it is not here."""
    if not is_installed():
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


def build(graph: Graph, prefetch: int, *, finished: bool = True) -> Any:
    """The built pipeline; outputs: float32 [n, 3, H, W], and int64 [n, 3] stored shapes if they are fixed.

    finished False: n images uint8 [H, W, 3] as decoded, or as resized if no size is stored; what comes after
    that is left to the caller. On the CPU alone.
    """
    dali = _dali()
    fn, types = dali.fn, dali.types
    pipeline = dali.Pipeline(
        batch_size=graph.batch_size,
        num_threads=graph.num_threads,
        device_id=graph.device_id,
        prefetch_queue_depth=prefetch,
        # The dynamic executor takes fresh memory for every batch, which the system maps page by page; where
        # the caller takes the pixels out at once, that is a tenth of all time.
        exec_dynamic=finished,
    )
    with pipeline:
        # The arrays are parts of the memory map; the loader keeps them until their batch is out.
        encoded = fn.external_source(name="encoded", dtype=types.UINT8, ndim=1, no_copy=True)
        images = fn.decoders.image(
            encoded, device="cpu" if graph.device_id is None else "mixed", output_type=types.RGB
        )
        if graph.stored is None:
            images = _fit(dali, images, graph.size)
        if finished:
            images = _finish(fn, types, images, graph)
        shapes = (fn.peek_image_shape(encoded),) if finished and graph.stored is not None else ()
        pipeline.set_outputs(images, *shapes)
    pipeline.build()
    return pipeline


def _fit(dali: Any, images: Any, size: tuple[int, int]) -> Any:
    """What `decode.fit` does: the middle of those that are only too wide, the others resized."""
    fn = dali.fn
    shape = images.shape(dtype=dali.types.FLOAT)
    height, width = shape[0], shape[1]
    surplus = (height == size[0]) * (width > size[1]) * (width - size[1])
    left = dali.math.floor((surplus + 1) / 2)
    # A region of the size that is asked for comes out as it is.
    return fn.resize(
        images,
        size=list(size),
        roi_start=fn.stack(0.0 * left, left),
        roi_end=fn.stack(height, left + width - surplus),
    )


def _finish(fn: Any, types: Any, images: Any, graph: Graph) -> Any:
    """Augmented, cropped, mirrored, normalised planes."""
    settings = {
        name: fn.external_source(
            name=name, dtype=types.INT32 if name in _WHOLE_NUMBERS else types.FLOAT, ndim=dimensions
        )
        for name, dimensions in inputs(graph.augmentation).items()
    }
    mirror = settings.pop("mirror", 0)
    if settings:
        images = _operators(fn, images, settings, graph.worked_size)
    return fn.crop_mirror_normalize(
        images,
        dtype=types.FLOAT,
        output_layout="CHW",
        crop=list(graph.size),
        mirror=mirror,
        mean=[127.5] * 3,
        std=[128.0] * 3,
    )


def _operators(fn: Any, images: Any, settings: dict[str, Any], size: tuple[int, int]) -> Any:
    """DALI's operators for the settings that are given."""
    types = _dali().types
    if "jpeg_quality" in settings:
        quality = settings["jpeg_quality"]
        compressed = fn.jpeg_compression_distortion(images, quality=_dali().math.max(quality, 1))
        # There is no quality that leaves an image alone.
        images = images * fn.cast(quality == 0, dtype=types.UINT8) + compressed * fn.cast(
            quality > 0, dtype=types.UINT8
        )
    if "colour" in settings:
        colour, offset = settings["colour"], settings["colour_offset"]
        images = fn.coord_transform(images, M=colour, T=offset, dtype=types.UINT8)
        images = fn.reshape(images, layout="HWC")
    if "low_size" in settings:
        images = _lower_resolution(fn, images, settings, size)
    if "matrix" in settings:
        images = fn.warp_affine(images, matrix=settings["matrix"], fill_value=0.0)
    if "blur_sigma" in settings:
        images = fn.gaussian_blur(images, sigma=settings["blur_sigma"], window_size=settings["blur_window"])
    for name, value in (("erase", GREY), ("blank", BLACK)):
        if f"{name}_shape" in settings:
            anchor, shape = settings[f"{name}_anchor"], settings[f"{name}_shape"]
            images = fn.erase(images, anchor=anchor, shape=shape, axis_names="HW", fill_value=float(value))
    return images


def _lower_resolution(fn: Any, images: Any, settings: dict[str, Any], size: tuple[int, int]) -> Any:
    types = _dali().types
    low, down = settings["low_size"], settings["low_down"]
    full = types.Constant(np.array(size, dtype=np.float32))
    # Smoothing is a property of an operator, not of an image: those to be smoothed shrink in the first, the
    # others in the second; the size that an image has already leaves it as it is.
    smooth = fn.cast(down == TRIANGULAR, dtype=types.FLOAT)
    # Not rounded in between, as in the twin.
    images = fn.resize(
        images, size=full + (low - full) * smooth, interp_type=types.INTERP_TRIANGULAR, dtype=types.FLOAT
    )
    for target, code in ((low, down), (list(size), settings["low_up"])):
        kind = fn.cast(code, dtype=types.INTERP_TYPE)
        images = fn.resize(images, size=target, interp_type=kind, antialias=False)
    return fn.cast(images, dtype=types.UINT8)


def feed(
    pipeline: Any, graph: Graph, payloads: Payloads, parameters: Parameters, *, finished: bool = True
) -> None:
    """Hand one batch to the inputs of a pipeline that was built like this."""
    pipeline.feed_input("encoded", payloads)
    if finished:
        for name, values in settings_of(graph.augmentation, parameters, graph.worked_size).items():
            pipeline.feed_input(name, values)


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
