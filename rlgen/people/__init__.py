"""Demonstrations from people: finding, reading, replaying, and fetching the public sets."""
