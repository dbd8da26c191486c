"""Configurations as frozen dataclasses, and the presets. Imports nothing heavy."""
