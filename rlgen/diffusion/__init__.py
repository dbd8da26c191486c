"""Schedules, samplers and likelihoods: pure functions, no networks."""
