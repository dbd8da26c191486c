"""Episodes on disk: HDF5, RLDS, statistics, quality."""
