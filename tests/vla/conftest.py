"""A policy that several files of tests serve."""

import dataclasses

import jax
import numpy as np
import pytest
from vla.toy import CONFIG

from rlgen.vla.data.normalize import NormStats, Statistics
from rlgen.vla.data.spec import InputSpec, make_pipeline
from rlgen.vla.model import pi0
from rlgen.vla.serving.policy import VlaPolicy, warm_up


@pytest.fixture(scope="session")
def policy() -> VlaPolicy:
    """A toy policy with fresh parameters, compiled."""
    config = dataclasses.replace(CONFIG, prompt_length=6)
    stats = [Statistics(*(np.full(size, x, np.float32) for x in (0, 1, -1, 1))) for size in (8, 7)]
    pipeline = make_pipeline(config, InputSpec(), NormStats(*stats))
    policy = VlaPolicy(config, pi0.init(config, jax.random.key(0)), pipeline, sampling_steps=2, batch=4)
    warm_up(policy)
    return policy
