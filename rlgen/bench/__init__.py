"""Benchmarks of speed on this machine, with medians and ranges, as JSON; and damage to files of demonstrations."""
