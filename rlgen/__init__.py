"""Diffusion-RL experts that write LIBERO datasets, and a flow VLA trained on them."""
