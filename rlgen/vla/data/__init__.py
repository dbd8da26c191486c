"""The inputs of a model: batches, normalization, tokens, images, and the transforms that turn one into the other."""
