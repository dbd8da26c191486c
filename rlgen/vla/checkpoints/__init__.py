"""Weights: openpi's checkpoints, PaliGemma's, and our model folders."""
