"""Rendered identities: parametric faces drawn with OpenCV. No person is shown; say "rendered" beside them."""

from data_pipeline.rendered.face import render_face, render_jpeg
from data_pipeline.rendered.source import RenderedFaces
from data_pipeline.rendered.write import write_rendered_dataset, write_rendered_pairs

__all__ = ["RenderedFaces", "render_face", "render_jpeg", "write_rendered_dataset", "write_rendered_pairs"]
