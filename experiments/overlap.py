"""Seconds of a PPO iteration whose environments take turns in groups, compared with all in one group.

Command:  uv run python experiments/overlap.py --assets DIR [--groups 1 2] [--iterations 5] [--json FILE]
Cost:     five minutes on two cores.
Expected: on two cores little: environments, renderer, sampler and update share them. What is gained is the time in
          which a core waits for the last environment of a chunk.

Preset `state` and preset `narrow` (two cameras of 84²), with fresh policies; one iteration of each number of groups in
turn, the first of each not counted. On an accelerator, `--threads 16` and more `--environments` show what it waits for.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from rlgen.bench.timing import describe
from rlgen.configs.presets import expert_presets, fit_to
from rlgen.configs.schema import Config
from rlgen.core.files import write_json
from rlgen.core.process import cache_folder
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.scenes.assets import find_assets
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.scenes.scene import Scene
from rlgen.pipeline.policy import make_policy, policy_observe
from rlgen.policies.critic import make_critic
from rlgen.rl.ppo import iterate
from rlgen.rl.train_state import init_state

RESULTS = Path(__file__).resolve().parent / "results" / "speed" / "overlap.json"
PARTS = ("environment", "rendering", "sampler", "update", "accelerator", "total")


def main() -> None:
    """Times the iterations and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="libero_object/6")
    parser.add_argument("--assets", type=Path, help="the benchmark's own assets; placeholder assets by default")
    parser.add_argument("--groups", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--iterations", type=int, default=5, help="that count")
    parser.add_argument("--environments", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    cache = cache_folder()
    assets = find_assets(arguments.assets, placeholders=arguments.assets is None, cache=cache)
    scene = load_scene(arguments.task, assets, cache)
    report = {
        **describe(),
        "task": arguments.task,
        "environments": arguments.environments,
        "threads": arguments.threads,
    }
    for name in ("state", "narrow"):
        config = fit_to(expert_presets()[name], scene.task.horizon)
        report[name] = measure(scene, config, arguments)
        for groups, seconds in report[name].items():
            share = seconds["accelerator"]["median"] / seconds["total"]["median"]
            print(
                f"{name}, groups {groups}: {seconds['total']['median']:.2f} s, sampler and update {100 * share:.0f} %"
            )
    write_json(arguments.json, report)


def measure(scene: Scene, config: Config, arguments: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """Returns median, least and most seconds of each part of an iteration, by the number of groups.

    Args:
      scene: of the task.
      config: of a preset.
      arguments: of the command line.
    """
    policy = make_policy(config, scene)
    critic = make_critic(policy)
    env = VectorEnv([scene] * arguments.environments, threads=arguments.threads)
    observe = policy_observe(policy, env.scenes, threads=arguments.threads)
    measured: dict[int, list[dict[str, float]]] = {groups: [] for groups in arguments.groups}
    key = jax.random.PRNGKey(0)
    for _ in range(1 + arguments.iterations):
        for groups in arguments.groups:
            ppo = replace(config.ppo, environments=arguments.environments, groups=groups)
            # A fresh state each time: the same rollout, whatever was learned.
            state = init_state(key, policy, critic, policy.init(key), ppo)
            _, metrics = iterate(policy, critic, ppo, state, env, 0, observe=observe)
            measured[groups].append({part: metrics[f"seconds_{part}"] for part in PARTS})
    env.close()
    return {
        str(groups): {part: summary([run[part] for run in runs[1:]]) for part in PARTS}
        for groups, runs in measured.items()
    }


def summary(seconds: list[float]) -> dict[str, float]:
    """Returns median, least and most."""
    return {"median": float(np.median(seconds)), "low": min(seconds), "high": max(seconds)}


if __name__ == "__main__":
    main()
