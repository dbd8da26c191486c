"""Whole iterations of PPO: seconds of each part, and the share in which the accelerator works."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import jax

from rlgen.configs.schema import Config, PPOConfig
from rlgen.libero.envs.device_world import DeviceWorld
from rlgen.libero.envs.image_observer import Observe
from rlgen.libero.envs.observations import observation_size
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.envs.worlds import make_training_world
from rlgen.libero.scenes.scene import Scene
from rlgen.policies.critic import make_critic
from rlgen.policies.diffusion import DiffusionPolicy
from rlgen.rl.ppo import iterate
from rlgen.rl.rollout import RolloutEnv
from rlgen.rl.train_state import init_state

# An iteration that is one program has no parts but that.
PARTS = ("environment", "rendering", "sampler", "update", "program", "waiting", "accelerator", "total")
Timings = dict[int, list[dict[str, float]]]


def measure_scene(
    scene: Scene,
    config: Config,
    *,
    threads: int,
    groups: Sequence[int],
    iterations: int,
    on_iteration: Callable[[Timings], None] = lambda timings: None,
    on_compiled: Callable[[int, float], None] = lambda groups, seconds: None,
) -> Timings:
    """Times iterations of a fresh diffusion policy in environments of one scene.

    Args:
      scene: of the task.
      config: policy and training; `ppo.environments` environments in `ppo.world`.
      threads: that step environments and render on the CPU.
      groups: numbers of groups of environments to try in turn, as `ppo.groups`.
      iterations: that count, of each number of groups; the first of each does not.
      on_iteration: called after each with what has been measured.
      on_compiled: called after the first of each with its number of groups and its seconds.
    """
    size, encoder = observation_size(scene), config.policy.image_encoder
    has_images = config.policy.has_images
    policy = DiffusionPolicy(config.policy, size + (encoder.robot_state_size if has_images else 0))
    count, image_size = config.ppo.environments, encoder.image_size if has_images else None
    options = {"renderer": encoder.renderer, "threads": threads}
    env, observe = make_training_world(scene, count, config.ppo.world, image_size, **options)
    try:
        return measure(policy, config.ppo, env, observe, groups, iterations, on_iteration, on_compiled)
    finally:
        if isinstance(env, VectorEnv):
            env.close()


def measure(
    policy: DiffusionPolicy,
    config: PPOConfig,
    env: RolloutEnv | DeviceWorld,
    observe: Observe,
    groups: Sequence[int],
    iterations: int,
    on_iteration: Callable[[Timings], None] = lambda timings: None,
    on_compiled: Callable[[int, float], None] = lambda groups, seconds: None,
) -> Timings:
    """Times iterations, one of each number of groups in turn; arguments as of `measure_scene`.

    Args:
      policy: the policy, with fresh parameters in every iteration: the same rollout, whatever was learned.
      config: of the training.
      env: `config.environments` environments.
      observe: makes the policy's observations.
      groups: numbers of groups.
      iterations: that count.
      on_iteration: called after each.
      on_compiled: called after the first of each.

    Returns:
      For each number of groups the seconds of those `PARTS` that it has, and the `control_steps`, of each
      iteration but the first.
    """
    critic, key = make_critic(policy), jax.random.PRNGKey(0)
    measured: Timings = {count: [] for count in groups}
    for index in range(1 + iterations):
        for count in groups:
            ppo = replace(config, groups=count)
            state = init_state(key, policy, critic, policy.init(key), ppo)
            _, metrics = iterate(policy, critic, ppo, state, env, 0, observe=observe)
            seconds = {part: metrics[f"seconds_{part}"] for part in PARTS if f"seconds_{part}" in metrics}
            values = seconds | {"control_steps": metrics["control_steps"]}
            if index:
                measured[count].append(values)
                on_iteration(measured)
            else:
                on_compiled(count, metrics["seconds_total"])
    return measured


def summary(iterations: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Returns median, least and most seconds of each part, of control steps per second, and of the idle share.

    Gaps between the kernels of a program count as work.
    """
    seconds = {part: spread([each[part] for each in iterations]) for part in PARTS if part in iterations[0]}
    return {
        **seconds,
        "control_steps_per_s": spread([each["control_steps"] / each["total"] for each in iterations]),
        "idle_share": spread([1 - each["accelerator"] / each["total"] for each in iterations]),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Returns median, least and most of some numbers."""
    return {"median": float(median(values)), "low": float(min(values)), "high": float(max(values))}
