"""Runs, checkpoints, metrics."""
