"""A VLA's inputs: transforms, tokens, normalization, images, frames and batches."""
