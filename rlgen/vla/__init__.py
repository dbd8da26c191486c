"""The flow VLA: network, inputs, training, checkpoints and serving."""
