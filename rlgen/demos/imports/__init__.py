"""Human demonstrations: download, reading, replay, and writing as ours."""
