"""RLDS in the LIBERO community's schema, without TensorFlow."""
