"""Frames of what is visible: geoms, cameras and lights in the world, from joint positions."""

import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from rlgen.core.errors import UserError
from rlgen.libero.rendering.software import camera_ids
from rlgen.libero.scenes.indicators import OUT_OF_VIEW, read_indicators
from rlgen.libero.warp.kinematics import Poses, Tree, forward_kinematics
from rlgen.libero.warp.rotations import multiply, rotate, to_matrix


@struct.dataclass
class Mounted:
    """Elements of one kind, each fixed to a body.

    Attributes:
      bodies: the body of each.
      positions, quaternions: relative to the body.
    """

    bodies: tuple[int, ...] = struct.field(pytree_node=False)
    positions: Float[Array, "E 3"]
    quaternions: Float[Array, "E 4"]

    def place(self, poses: Poses) -> tuple[Float[Array, "E 3"], Float[Array, "E 3 3"]]:
        """Returns positions and rotations in the world."""
        bodies = np.array(self.bodies, np.int32)
        turned = poses.xquat[bodies]
        position = poses.xpos[bodies] + rotate(turned, self.positions)
        return position, to_matrix(multiply(turned, self.quaternions))


@struct.dataclass
class View:
    """The visual model as the ray tracer needs it.

    Attributes:
      geoms, cameras: of the model.
      light_bodies: the body of each light.
      light_positions, light_directions: relative to it.
      indicators: geom, address of its joint in qpos, joint position from which it is visible.
    """

    geoms: Mounted
    cameras: Mounted
    light_bodies: tuple[int, ...] = struct.field(pytree_node=False)
    light_positions: Float[Array, "L 3"]
    light_directions: Float[Array, "L 3"]
    indicators: tuple[tuple[int, int, float], ...] = struct.field(pytree_node=False)


@struct.dataclass
class Frames:
    """Frames in the world, as the ray tracer reads them; names are MuJoCo's."""

    geom_xpos: Float[Array, "geoms 3"]
    geom_xmat: Float[Array, "geoms 3 3"]
    cam_xpos: Float[Array, "cameras 3"]
    cam_xmat: Float[Array, "cameras 3 3"]
    light_xpos: Float[Array, "lights 3"]
    light_xdir: Float[Array, "lights 3"]


def make_view(model: mujoco.MjModel, cameras: tuple[str, ...]) -> View:
    """Returns the view of a visual model.

    Args:
      model: the visual model.
      cameras: names of those that will be used.

    Raises:
      UserError: a camera that is not there, or one or a light that follows a body instead of being fixed to it.
    """
    try:
        used = camera_ids(model, cameras)
    except ValueError as error:
        raise UserError(str(error)) from None
    if np.any(model.cam_mode[used]) or np.any(model.light_mode):
        raise UserError("a camera or a light that follows a body, expected fixed ones; use renderer fast")
    return View(
        geoms=_mounted(model.geom_bodyid, model.geom_pos, model.geom_quat),
        cameras=_mounted(model.cam_bodyid, model.cam_pos, model.cam_quat),
        light_bodies=tuple(model.light_bodyid.tolist()),
        light_positions=jnp.asarray(model.light_pos),
        light_directions=jnp.asarray(model.light_dir),
        indicators=read_indicators(model),
    )


def _mounted(bodies: np.ndarray, positions: np.ndarray, quaternions: np.ndarray) -> Mounted:
    return Mounted(tuple(bodies.tolist()), jnp.asarray(positions), jnp.asarray(quaternions))


def place(tree: Tree, view: View, qpos: Float[Array, " nq"]) -> Frames:
    """Computes the frames of one world; indicators that are off are moved out of view.

    Args:
      tree: of the scene, with its fixtures where they stand.
      view: from `make_view`.
      qpos: joint positions.
    """
    poses = forward_kinematics(tree, qpos)
    geom_xpos, geom_xmat = view.geoms.place(poses)
    for geom, address, threshold in view.indicators:
        lit = qpos[address] >= threshold
        geom_xpos = geom_xpos.at[geom].set(jnp.where(lit, geom_xpos[geom], OUT_OF_VIEW))
    cam_xpos, cam_xmat = view.cameras.place(poses)
    bodies = np.array(view.light_bodies, np.int32)
    turned = poses.xquat[bodies]
    light_xpos = poses.xpos[bodies] + rotate(turned, view.light_positions)
    light_xdir = rotate(turned, view.light_directions)
    return Frames(geom_xpos, geom_xmat, cam_xpos, cam_xmat, light_xpos, light_xdir)
