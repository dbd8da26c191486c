"""The OpenGL renderer: the benchmark's own images, rendered by MuJoCo with a GL library."""

import functools
import importlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import mujoco
import numpy as np
from jaxtyping import Float, UInt8

from rlgen.core.errors import UserError
from rlgen.libero.rendering.software import CAMERAS, camera_ids
from rlgen.libero.scenes.fixtures import NOT_MOVED, move_bodies
from rlgen.libero.scenes.indicators import Indicators

Gl = Literal["egl", "osmesa", "none"]
_OFF = ("disable", "disabled", "off", "false", "0")
_TRIAL = (
    "import sys, importlib; from OpenGL import GL;"
    "context = importlib.import_module('mujoco.' + sys.argv[1]).GLContext(8, 8);"
    "context.make_current(); print(GL.glGetString(GL.GL_VERSION) is not None)"
)
_TRIAL_SECONDS = 60
_COLLISION_GROUP = 0  # the geom group that the benchmark hides
_MAX_GEOMS = 1000  # robosuite's limit; it leaves out more as well


@functools.cache
def find_gl() -> Gl:
    """Finds a GL library that renders without a display on this machine: EGL, else OSMesa, else none.

    The variable `MUJOCO_GL` restricts the search: `egl` or `osmesa` is the only library tried, `disabled` means none,
    anything else has no effect. Each library is tried in a process of its own, since a missing or broken one can end
    the process that loads it, and the first one loaded excludes the other.
    """
    wanted = os.environ.get("MUJOCO_GL", "").lower().strip()
    if wanted in _OFF:
        return "none"
    for gl in (wanted,) if wanted in ("egl", "osmesa") else ("egl", "osmesa"):
        if _works(gl):
            return gl
    return "none"


def _works(gl: str) -> bool:
    # MUJOCO_GL would load its library as soon as mujoco is imported; PYOPENGL_PLATFORM must agree with it.
    environment = {key: value for key, value in os.environ.items() if key != "MUJOCO_GL"}
    environment["PYOPENGL_PLATFORM"] = gl
    command = [sys.executable, "-c", _TRIAL, gl]
    try:
        result = subprocess.run(command, env=environment, capture_output=True, timeout=_TRIAL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return result.returncode == 0 and result.stdout.strip() == b"True"


class OpenGLRenderer:
    """Renders as LIBERO's `OffScreenRenderEnv` does: same pixels with the same GL library and MuJoCo.

    A renderer belongs to the thread that made it, as GL contexts do. Sites are hidden, as LIBERO hides them at every
    reset; the site that it shows, the red disc on a stove that is turned on, is an indicator of the scene's model.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        *,
        cameras: Sequence[str] = CAMERAS,
        image_size: int = 128,
        gl: Gl | None = None,
    ):
        """Opens a GL context and loads the model into it.

        Args:
          model: the scene.
          cameras: names, in the order of the images.
          image_size: width and height, pixels.
          gl: the library; `find_gl` chooses it by default.

        Raises:
          UserError: there is no GL library, or this process has already loaded another one.
          ValueError: an unknown camera.
        """
        self.model, self.image_size = model, image_size
        self._cameras = camera_ids(model, cameras)
        self._data, self._indicators = mujoco.MjData(model), Indicators(model)
        self._gl = _open(gl or find_gl(), image_size)
        self._scene = mujoco.MjvScene(model, maxgeom=_MAX_GEOMS)
        self._option = mujoco.MjvOption()
        self._option.geomgroup[_COLLISION_GROUP] = 0
        self._option.sitegroup[:] = 0
        self._context = self._load()

    def _load(self) -> mujoco.MjrContext:
        """Loads the model into OpenGL, with an offscreen buffer at least as large as an image."""
        buffer = self.model.vis.global_
        before = buffer.offwidth, buffer.offheight
        try:
            if self.image_size > min(before):
                buffer.offwidth, buffer.offheight = (max(side, self.image_size) for side in before)
            context = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_150)
        finally:
            buffer.offwidth, buffer.offheight = before
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
        return context

    def render(
        self, qpos: Float[np.ndarray, " nq"], moved: Mapping[int, Float[np.ndarray, "7"]] = NOT_MOVED
    ) -> UInt8[np.ndarray, "cameras size size 3"]:
        """Renders the scene; arguments as of `Renderer.render`."""
        model, data = self.model, self._data
        data.qpos[:] = qpos
        mujoco.mj_fwdPosition(model, data)
        move_bodies(model, data, moved)
        self._indicators.hide_unlit(data)
        self._gl.make_current()
        window = mujoco.MjrRect(0, 0, self.image_size, self.image_size)
        camera, no_perturbation = mujoco.MjvCamera(), mujoco.MjvPerturb()
        camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        images = np.empty((len(self._cameras), self.image_size, self.image_size, 3), np.uint8)
        all_categories = mujoco.mjtCatBit.mjCAT_ALL.value
        for camera_id, image in zip(self._cameras, images, strict=True):
            camera.fixedcamid = camera_id
            mujoco.mjv_updateScene(model, data, self._option, no_perturbation, camera, all_categories, self._scene)
            mujoco.mjr_render(window, self._scene, self._context)
            mujoco.mjr_readPixels(image, None, window, self._context)
        return images

    def close(self) -> None:
        """Frees the GL context; the renderer renders nothing afterwards."""
        if self._context is not None:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._context = None

    def __enter__(self) -> "OpenGLRenderer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(gl: Gl, size: int) -> Any:
    if gl == "none":
        raise UserError(
            "the benchmark renderer needs a GL library and none was found: "
            "install libegl1 or libosmesa6, or use the fast renderer"
        )
    try:
        context = importlib.import_module(f"mujoco.{gl}").GLContext(size, size)
    except Exception as error:
        # PyOpenGL and drivers raise errors of any kind.
        raise UserError(f"GL library {gl!r} does not work here ({error}): try another MUJOCO_GL") from error
    context.make_current()
    return context
