"""Evaluation of policies on the benchmark: ours in process, or any server that speaks openpi's protocol."""
