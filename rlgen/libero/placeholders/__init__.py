"""Placeholder assets: plain geometry in place of the benchmark's objects, so that every task builds offline."""
