"""A contact-free trajectory: the arm moves while every object falls beside it from a metre up.

As a program: `python fall_and_move.py BUNDLE OUT` writes it as `.npy`, in whatever MuJoCo it is run with.
"""

import sys
from pathlib import Path

import mujoco
import numpy as np

from rlgen.libero.physics import kernel, kernel_arrays
from rlgen.libero.scenes.scene import Scene, load_scene_bundle

STEPS = 8


def trajectory(scene: Scene) -> np.ndarray:
    """Time, qpos, qvel after each of the control steps, `[STEPS, D]`."""
    kernel.link_mujoco()
    model, data = scene.model, mujoco.MjData(scene.model)
    data.qpos[:] = scene.stored_states[0, 1 : 1 + model.nq]
    for body in scene.object_bodies:
        address = model.jnt_qposadr[model.body_jntadr[body]]
        data.qpos[address : address + 3] += (0.0, 2.0, 1.0)
    mujoco.mj_forward(model, data)
    states = np.zeros((STEPS, scene.stored_states.shape[1]))
    views, constants = kernel_arrays.make_data_arrays(model, data), kernel_arrays.make_constants(scene)
    actions = np.random.default_rng(0).uniform(-0.5, 0.5, (STEPS, 7))
    # Upwards, away from the table.
    actions[:, 2] = np.abs(actions[:, 2])
    kernel.run_chunk(views, constants, kernel_arrays.make_controller_state(scene), actions, False, 0.0, states)
    assert data.ncon == 0
    return states


if __name__ == "__main__":
    np.save(sys.argv[2], trajectory(load_scene_bundle(Path(sys.argv[1]))))
    print(mujoco.__version__)
