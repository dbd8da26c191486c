"""Episodes on disk: dataset formats, statistics, quality metrics, and what training reads."""
