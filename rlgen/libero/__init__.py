"""The world: everything that knows what LIBERO is."""
