"""A demonstrator that solves LIBERO's tasks by itself, by skills composed from goal and scene."""
