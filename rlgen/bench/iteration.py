"""Whole iterations of PPO: seconds of each part, and the share in which the accelerator works."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import jax

from rlgen.configs.schema import Config, PPOConfig
from rlgen.libero.envs.image_observer import Observe, make_observe
from rlgen.libero.envs.observations import observation_size
from rlgen.libero.envs.worlds import World, make_vector_env
from rlgen.libero.scenes.scene import Scene
from rlgen.policies.critic import make_critic
from rlgen.policies.diffusion import DiffusionPolicy
from rlgen.rl.ppo import iterate
from rlgen.rl.rollout import RolloutEnv
from rlgen.rl.train_state import init_state

PARTS = ("environment", "rendering", "sampler", "update", "waiting", "accelerator", "total")
Timings = dict[int, list[dict[str, float]]]


def measure_scene(
    scene: Scene,
    config: Config,
    *,
    threads: int,
    groups: Sequence[int],
    iterations: int,
    world: World = "fast",
    on_iteration: Callable[[Timings], None] = lambda timings: None,
) -> Timings:
    """Times iterations of a fresh diffusion policy in environments of one scene.

    Args:
      scene: of the task.
      config: policy and training; `ppo.environments` environments.
      threads: that step environments and render on the CPU.
      groups: numbers of groups of environments to try in turn, as `ppo.groups`.
      iterations: that count, of each number of groups; the first of each does not.
      world: as of `make_vector_env`; with `warp` images are drawn on the accelerator as well.
      on_iteration: called after each with what has been measured.
    """
    size, encoder = observation_size(scene), config.policy.image_encoder
    has_images = config.policy.has_images
    policy = DiffusionPolicy(config.policy, size + (encoder.robot_state_size if has_images else 0))
    env = make_vector_env([scene] * config.ppo.environments, world, threads=threads)
    renderer = "warp" if world == "warp" else "fast"
    observe = make_observe(env.scenes, encoder.image_size if has_images else None, threads=threads, renderer=renderer)
    try:
        return measure(policy, config.ppo, env, observe, groups, iterations, on_iteration)
    finally:
        env.close()


def measure(
    policy: DiffusionPolicy,
    config: PPOConfig,
    env: RolloutEnv,
    observe: Observe,
    groups: Sequence[int],
    iterations: int,
    on_iteration: Callable[[Timings], None] = lambda timings: None,
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

    Returns:
      For each number of groups the seconds of `PARTS` and the `control_steps` of each iteration but the first.
    """
    critic, key = make_critic(policy), jax.random.PRNGKey(0)
    measured: Timings = {count: [] for count in groups}
    for index in range(1 + iterations):
        for count in groups:
            ppo = replace(config, groups=count)
            state = init_state(key, policy, critic, policy.init(key), ppo)
            _, metrics = iterate(policy, critic, ppo, state, env, 0, observe=observe)
            values = {part: metrics[f"seconds_{part}"] for part in PARTS} | {"control_steps": metrics["control_steps"]}
            if index:
                measured[count].append(values)
                on_iteration(measured)
    return measured


def summary(iterations: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Returns median, least and most seconds of each part, of control steps per second, and of the idle share."""
    seconds = {part: spread([each[part] for each in iterations]) for part in PARTS}
    return {
        **seconds,
        "control_steps_per_s": spread([each["control_steps"] / each["total"] for each in iterations]),
        "idle_share": spread([1 - each["accelerator"] / each["total"] for each in iterations]),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Returns median, least and most of some numbers."""
    return {"median": float(median(values)), "low": float(min(values)), "high": float(max(values))}
