"""`rlgen bench update`: seconds of PPO's loss and gradient on the reference network, and memory of an update on images.

The reference network is a conditional U-Net of 64 and 128 channels over chunks of 16 actions of size 7, on a state of
size 23, with 1.65 million parameters: the case that the reference implementation of DPPO was timed on, so that results
of different machines can be compared.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlgen.bench.timing import MATRIX_SIZE, describe, matmul_gflops, seconds_of
from rlgen.configs.schema import PolicyConfig, PPOConfig
from rlgen.core.types import ImageObservation
from rlgen.policies.base import Policy
from rlgen.policies.critic import Critic, make_critic
from rlgen.policies.diffusion import DiffusionPolicy
from rlgen.rl.ppo import Minibatch, minibatch_loss, run_update, select
from rlgen.rl.samples import Samples
from rlgen.rl.train_state import PPOState, init_state
from rlgen.training.gradients import parts_of, value_and_grad_in_parts

BATCH, UPDATE_BATCH = 50, 512
POLICY = DiffusionPolicy(
    PolicyConfig(horizon=16, dim=64, dim_mults=(1, 2), film_deep=True, time_embedding_size=32), observation_size=23
)
CRITIC = make_critic(POLICY)
CONFIG = PPOConfig(environments=BATCH, chunks=16, batch=UPDATE_BATCH, epochs=1, critic_warmup=0, iterations=1)
BATCHES = (128, 512, 2048)
# Samples whose gradient is computed at a time: what fits a cache is faster on a CPU.
PARTS = (64, 128, 512)
# The update whose memory is reported: number of environments, chunks of each, and size of the images of both cameras.
ENVIRONMENTS, CHUNKS, SIZE = 500, 5, 128
STATE_SIZE, ROBOT_SIZE = 31, 8


def run(*, repetitions: int, quick: bool, log: Callable[[str], None]) -> dict[str, Any]:
    """Times every case, and returns the report as JSON values.

    Args:
      repetitions: timed runs of each case, after one that compiles and one that warms up.
      quick: only the reference case, and the memory of a smaller update.
      log: called with a line for every row.
    """
    device, rate = describe(), matmul_gflops(repetitions)
    log(f"{device['device']}: {rate:.0f} GFLOP/s in matrix products of {MATRIX_SIZE}²")
    rows = []
    for batch in (UPDATE_BATCH,) if quick else BATCHES:
        for part in PARTS:
            if part <= batch:
                rows.append({"batch": batch, "part": part, "chunk": POLICY.horizon})
                rows[-1] |= time_update(repetitions, batch, part)
                log(f"loss and gradient, batch {batch} in parts of {part}: {rows[-1]['seconds']:.4f} s")
    reference = min((row for row in rows if row["batch"] == UPDATE_BATCH), key=lambda row: row["seconds"])
    memory = update_memory(ENVIRONMENTS // (50 if quick else 1), CHUNKS)
    log(f"update on images: {memory['peak_bytes'] / 1e9:.2f} GB")
    return {
        **device,
        "matmul_gflops": rate,
        "matmul_gflops_after": matmul_gflops(repetitions),
        "repetitions": repetitions,
        "rows": rows,
        "reference_case": {"update_s": reference["seconds"], "part": reference["part"]},
        "memory": memory,
    }


def time_reference(repetitions: int) -> dict[str, float]:
    """Returns the time of the reference case by the fastest of `PARTS`, and that part."""
    timings = [{**time_update(repetitions, UPDATE_BATCH, part), "part": part} for part in PARTS]
    return min(timings, key=lambda timing: timing["seconds"])


def time_update(repetitions: int, batch: int, part: int) -> dict[str, float]:
    """Times loss and gradient of policy and critic in the reference case.

    Args:
      repetitions: timed runs.
      batch: pairs of a chunk and a denoising step.
      part: pairs whose gradient is computed at a time.
    """
    config = replace(CONFIG, batch=batch)
    state, minibatch = _synthetic(POLICY, CRITIC, config, batch)

    @jax.jit
    def gradient(state: PPOState, minibatch: Minibatch) -> Any:
        def loss(trained: Any, minibatch: Minibatch) -> Any:
            return minibatch_loss(POLICY, CRITIC, config, state, trained, minibatch)

        trained = {"net": state.net, "critic": state.critic}
        return value_and_grad_in_parts(loss, trained, minibatch, parts_of(batch, part))

    return seconds_of(lambda: gradient(state, minibatch), repetitions)


def _synthetic(policy: Policy, critic: Critic, config: PPOConfig, batch: int) -> tuple[PPOState, Minibatch]:
    """Returns a training state, and a minibatch of pairs of different chunks."""
    params = jax.jit(policy.init)(jax.random.PRNGKey(0))
    state = jax.jit(partial(init_state, jax.random.PRNGKey(1), policy, critic, config=config))(params)
    observation = jax.random.normal(jax.random.PRNGKey(2), (batch, policy.observation_size))
    sampled = jax.jit(policy.sample)(params, jax.random.PRNGKey(3), observation)
    advantage, values = jax.random.normal(jax.random.PRNGKey(4), (2, batch))
    samples = Samples(observation, sampled.chain, sampled.log_prob, advantage, values, values)
    index = (jnp.arange(batch) % policy.num_trained_steps)[:, None]
    return state, select(policy, config, samples, jnp.arange(batch), index)


def vision_policy() -> DiffusionPolicy:
    """Returns the paper's policy on images, about 12 million parameters with the critic."""
    config = PolicyConfig(observation="images", dim=64, dim_mults=(1, 2, 4), film_deep=True)
    return DiffusionPolicy(config, observation_size=ROBOT_SIZE + STATE_SIZE)


def update_memory(environments: int, chunks: int, epochs: int = 1) -> dict[str, Any]:
    """Returns the most bytes that the compiled update holds: its inputs, its outputs and what lies between.

    The compiler plans them before anything runs. Images are bytes in the buffer, and a minibatch is differentiated in
    parts.

    Args:
      environments: whose chunks are learned from.
      chunks: of each environment.
      epochs: passes over them.
    """
    policy = vision_policy()
    critic, encoder = make_critic(policy), policy.config.image_encoder
    config = PPOConfig(environments=environments, chunks=chunks, batch=2500, epochs=epochs, microbatch=500)
    count, size = environments * chunks, encoder.image_size
    images = jax.ShapeDtypeStruct((count, encoder.cameras, size, size, 3), np.uint8)

    def floats(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((count, *shape), np.float32)

    actions = (policy.horizon, policy.action_size)
    samples = Samples(
        ImageObservation(images=images, vector=floats(policy.observation_size)),
        floats(policy.num_trained_steps + 1, *actions),
        floats(policy.num_trained_steps, *actions),
        *(floats() for _ in range(3)),
    )
    key = jax.random.PRNGKey(0)
    state = jax.eval_shape(lambda: init_state(key, policy, critic, policy.init(key), config))
    update = jax.jit(run_update, static_argnums=(0, 1, 2), donate_argnames=("state",))
    plan = update.lower(policy, critic, config, state, samples).compile().memory_analysis()
    peak = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes - plan.alias_size_in_bytes
    return {
        "environments": environments,
        "chunks": chunks,
        "cameras": encoder.cameras,
        "size": size,
        "pairs": config.batch,
        "part": config.microbatch,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves((state.net, state.critic))),
        "samples_bytes": sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(samples)),
        "temporary_bytes": plan.temp_size_in_bytes,
        "peak_bytes": peak,
    }
