"""Datasets from recorded episodes: validation, rendering, export, merging, comparison, viewing."""
