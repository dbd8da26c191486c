"""Weights of a model: openpi's checkpoints, PaliGemma's npz, and folders of finished models."""
