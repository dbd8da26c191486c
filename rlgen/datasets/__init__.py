"""Datasets out of recorded episodes: what is exported, checked, drawn, told of it, merged and compared."""
