"""Figures, videos and pages of results."""
