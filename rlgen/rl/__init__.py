"""Behavior cloning, returns and PPO over the denoising chain."""
