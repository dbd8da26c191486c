"""HDF5 in LIBERO's own layout."""
