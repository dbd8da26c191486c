"""Checkpoints, metrics, runs, sharding and gradient accumulation, for every kind of training."""
