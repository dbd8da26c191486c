"""Records the benchmark's own images of tasks at given joint positions, for tests that compare ours with them.

A program of its own:  python tests/libero/record_images.py --assets DIR --gl GL --out DIR TASK=QPOS.npy...
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from rlgen.libero.rendering.software import CAMERAS
from rlgen.libero.scenes.build import official_environment, prepare
from rlgen.libero.tasks.suites import find_task


def main() -> None:
    """Writes `<suite>-<index>.npz` with images `[positions, cameras, size, size, 3]` under each size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("jobs", nargs="+")
    parser.add_argument("--assets", required=True)
    parser.add_argument("--gl", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as configuration:
        prepare(arguments.assets, Path(configuration), arguments.gl)
        for job in arguments.jobs:
            name, _, file = job.partition("=")
            task = find_task(name)
            env = official_environment(task, images=True)
            images = [_images(env, qpos) for qpos in np.load(file)]
            arrays = {str(size): np.stack([row[size] for row in images]) for size in (128, 256)}
            np.savez(arguments.out / f"{task.suite}-{task.index}.npz", **arrays)
            env.close()


def _images(env, qpos: np.ndarray) -> dict[int, np.ndarray]:
    observation = env.set_init_state(np.concatenate([[0.0], qpos, np.zeros(env.sim.model.nv)]))
    return {
        128: np.stack([observation[f"{camera}_image"] for camera in CAMERAS]),
        256: np.stack([env.sim.render(width=256, height=256, camera_name=camera) for camera in CAMERAS]),
    }


if __name__ == "__main__":
    main()
