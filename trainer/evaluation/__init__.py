"""Evaluation protocols, plots and reports."""
