"""Policies over action chunks, and what they need to act."""
