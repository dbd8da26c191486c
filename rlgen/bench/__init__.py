"""Benchmarks: both sides in one process, medians and spread, as JSON."""
