"""Engines: how the backbone is trained data-parallel."""
