"""Decoding by NVIDIA DALI."""
