"""Evaluation of policies on the benchmark: in this process, or behind a server that speaks openpi's protocol."""
