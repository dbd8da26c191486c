"""Datasets made from recorded episodes: selection, validation, rendering, export, merging, comparison, viewing."""
