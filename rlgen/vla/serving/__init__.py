"""Policies, servers and clients."""
