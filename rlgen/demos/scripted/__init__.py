"""A scripted expert that solves LIBERO tasks by skills composed from the goal and the scene."""
