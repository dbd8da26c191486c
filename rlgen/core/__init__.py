"""Types, errors, files, processes, progress and statistics for all packages. Nothing here knows LIBERO or JAX."""
