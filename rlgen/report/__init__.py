"""Intervals, plots, videos and the HTML page."""
