"""The network that sampler and update are timed on, so that figures of different machines can be compared.

A conditional U-Net of 64 and 128 channels over chunks of 16 actions of 7 numbers, on 23 numbers of state, 1.65 million
parameters: the case that the reference implementation of DPPO was timed on.
"""

from rlgen.config import PPOConfig
from rlgen.policies.critic import Critic
from rlgen.policies.diffusion_policy import DiffusionPolicy

BATCH, UPDATE_BATCH = 50, 512
POLICY = DiffusionPolicy(
    observation_size=23, horizon=16, action_size=7, dim=64, mults=(1, 2), film_deep=True, time_size=32
)
CRITIC = Critic(23, (256, 256, 256))
CONFIG = PPOConfig(environments=BATCH, chunks=16, batch=UPDATE_BATCH, epochs=1, critic_warmup=0, iterations=1)
