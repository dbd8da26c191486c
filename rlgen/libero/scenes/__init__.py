"""Scene bundles: built once by the benchmark itself, then loaded without it."""
