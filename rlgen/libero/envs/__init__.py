"""Environments: one, many on threads, Gymnasium; episodes, replays and observations."""
