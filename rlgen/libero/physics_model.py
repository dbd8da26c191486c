"""The physics of a bundle without what is only to be seen."""

import os
from pathlib import Path

import mujoco

MODEL_FILE = "scene.xml"


def physics_model(folder: Path) -> mujoco.MjModel:
    """The model without what is only to be seen or sensed, kept beside the MJCF for each MuJoCo version.

    MuJoCo takes masses and inertias from the visible geoms before it leaves them out: steps are the same bits. The
    gripper's force sensors are not part of the benchmark's observations and cost a twentieth of a step.
    """
    compiled = folder / f"physics-{mujoco.__version__}.mjb"
    if compiled.exists():
        model = mujoco.MjModel.from_binary_path(str(compiled))
    else:
        model = _compile(folder)
        _keep(model, compiled)
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_SENSOR)
    return model


def _compile(folder: Path) -> mujoco.MjModel:
    spec = mujoco.MjSpec.from_file(str(folder / MODEL_FILE))
    first, last = spec.compiler.inertiagrouprange
    for geom in list(spec.geoms):
        touches = geom.contype or geom.conaffinity
        if not touches and not first <= geom.group <= last:
            spec.delete(geom)
    # Most of the time would go into meshes that nothing uses any more.
    used = {geom.meshname for geom in spec.geoms}
    unused = [mesh for mesh in spec.meshes if mesh.name not in used]
    for element in (*spec.textures, *spec.materials, *unused):
        spec.delete(element)
    spec.compiler.discardvisual = True
    return spec.compile()


def _keep(model: mujoco.MjModel, file: Path) -> None:
    if os.access(file.parent, os.W_OK):
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        mujoco.mj_saveModel(model, str(temporary))
        os.replace(temporary, file)
