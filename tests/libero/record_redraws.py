"""Records the benchmark's own environment after a reset that drew the fixtures elsewhere than scene bundles have them.

A program of its own:  python tests/libero/record_redraws.py --assets DIR --out DIR TASK...
"""

import numpy as np
from official_programs import drawn_fixtures, record_tasks
from record_official import record_environment

from rlgen.libero.scenes.build import official_environment
from rlgen.libero.tasks.suites import Task

SEEDS = range(4)


def record(task: Task) -> dict[str, np.ndarray]:
    """Returns what `record_environment` does, where the fixtures stand, and draws of their samplers by seed."""
    env = official_environment(task)
    draws = np.stack([_draw_alone(env, seed) for seed in SEEDS])
    np.random.seed(100 + task.index)
    env.reset()
    return {"draws": draws, "fixtures": drawn_fixtures(env), **record_environment(env, task)}


def _draw_alone(env, seed: int) -> np.ndarray:
    """Returns what the samplers of the fixtures give, without those of objects between them."""
    np.random.seed(seed)
    placed: dict = {}
    for sampler in env.env.placement_initializer.samplers.values():
        if sampler.mujoco_objects[0].name in env.env.fixtures_dict:
            placed |= sampler.sample()
    return np.stack([np.concatenate([position, quaternion]) for position, quaternion, _ in placed.values()])


if __name__ == "__main__":
    record_tasks(record)
