"""One module a command: what it reads from a run, what it leaves there."""
