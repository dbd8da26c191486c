"""Types, errors, files, processes, progress and statistics that every room uses. Nothing here knows LIBERO or JAX."""
