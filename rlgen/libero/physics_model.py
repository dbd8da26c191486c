"""The physics of a bundle without what is only to be seen."""

import os
from pathlib import Path

import mujoco

MODEL_FILE = "scene.xml"


def physics_model(folder: Path) -> mujoco.MjModel:
    """The model without what is only to be seen, kept beside the MJCF for each MuJoCo version.

    MuJoCo takes masses and inertias from the visible geoms before it leaves them out: steps are the same bits.
    """
    compiled = folder / f"physics-{mujoco.__version__}.mjb"
    if compiled.exists():
        return mujoco.MjModel.from_binary_path(str(compiled))
    spec = mujoco.MjSpec.from_file(str(folder / MODEL_FILE))
    for element in (*spec.textures, *spec.materials):
        spec.delete(element)
    spec.compiler.discardvisual = True
    model = spec.compile()
    if os.access(folder, os.W_OK):
        temporary = folder / f".{compiled.name}.{os.getpid()}"
        mujoco.mj_saveModel(model, str(temporary))
        os.replace(temporary, compiled)
    return model
