"""Records the benchmark's own images of tasks at given joint positions, for tests that compare ours with them.

A program of its own:  python tests/libero/record_images.py --assets DIR --gl GL --out DIR TASK=QPOS.npy...
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from official_programs import drawn_fixtures

from rlgen.libero.rendering.software import CAMERAS
from rlgen.libero.scenes.build import official_environment, prepare
from rlgen.libero.tasks.suites import find_task


def main() -> None:
    """Writes `<suite>-<index>.npz`: images `[positions, cameras, size, size, 3]` under each size, and after a redraw.

    The latter are under `redraw<size>`, and `fixtures` says where the fixtures stood in them.
    """
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
            arrays = _arrays(env, np.load(file))
            np.random.seed(100 + task.index)
            env.reset()
            # One position is enough: images are slow.
            redrawn = {f"redraw{size}": images for size, images in _arrays(env, np.load(file)[:1]).items()}
            fixtures = {"fixtures": drawn_fixtures(env)}
            np.savez(arguments.out / f"{task.suite}-{task.index}.npz", **arrays, **redrawn, **fixtures)
            env.close()


def _arrays(env, positions: np.ndarray) -> dict[str, np.ndarray]:
    images = [_images(env, qpos) for qpos in positions]
    return {str(size): np.stack([row[size] for row in images]) for size in (128, 256)}


def _images(env, qpos: np.ndarray) -> dict[int, np.ndarray]:
    observation = env.set_init_state(np.concatenate([[0.0], qpos, np.zeros(env.sim.model.nv)]))
    return {
        128: np.stack([observation[f"{camera}_image"] for camera in CAMERAS]),
        256: np.stack([env.sim.render(width=256, height=256, camera_name=camera) for camera in CAMERAS]),
    }


if __name__ == "__main__":
    main()
