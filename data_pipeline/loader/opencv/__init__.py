"""Decoding by OpenCV, in processes of their own."""
