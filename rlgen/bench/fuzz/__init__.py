"""Damage to files of every kind, and whether their readers notice."""
