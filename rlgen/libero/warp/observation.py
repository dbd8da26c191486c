"""Observations in JAX, as `envs.observations.Observer` computes them, and all constants of a scene."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from rlgen.core.types import Observation, RobotState
from rlgen.libero.envs.observations import bystanders
from rlgen.libero.scenes.goals import CONTAIN, JOINT, UNDER
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.warp.controller import ControllerConstants, make_controller_constants
from rlgen.libero.warp.goals import GoalConstants, make_goal_constants
from rlgen.libero.warp.kinematics import Poses, Tree, make_tree
from rlgen.libero.warp.rotations import axis_angle, to_matrix


@struct.dataclass
class RobotAddresses:
    """Addresses of the robot in arrays of a scene, as of `scene.RobotIndex`."""

    arm_qpos: tuple[int, ...] = struct.field(pytree_node=False)
    finger_qpos: tuple[int, ...] = struct.field(pytree_node=False)
    grip_site: int = struct.field(pytree_node=False)
    hand_body: int = struct.field(pytree_node=False)


@struct.dataclass
class SceneConstants:
    """Constants of a scene, each for the functions of its module; a pytree."""

    controller: ControllerConstants
    tree: Tree
    robot: RobotAddresses
    bystanders: Int[Array, " B"]
    goal: GoalConstants


class Seen(NamedTuple):
    """The observation of one world; a pytree.

    Attributes:
      vector: as of `Observation`; zeros where the goal is padded.
      position, axis_angle, gripper, joints: as of `RobotState`.
      qpos: joint positions, for images.
    """

    vector: Float[Array, " O"]
    position: Float[Array, "3"]
    axis_angle: Float[Array, "3"]
    gripper: Float[Array, "2"]
    joints: Float[Array, "7"]
    qpos: Float[Array, " nq"]


def make_constants(scene: Scene, *, atoms: int | None = None, joints: int | None = None) -> SceneConstants:
    """Returns the constants of a scene.

    Args:
      scene: the task's scene, under the version of MuJoCo whose indices are meant.
      atoms: pad the goal to so many atoms.
      joints: pad its atoms to so many joints.

    Raises:
      UserError: the scene's robot or bodies are of kinds that no task of the benchmark has.
      ValueError: the goal has more atoms or joints than that.
    """
    return SceneConstants(
        make_controller_constants(scene),
        make_tree(scene),
        _robot_addresses(scene),
        jnp.asarray(bystanders(scene)),
        make_goal_constants(scene.goal, scene.model.ngeom, atoms=atoms, joints=joints),
    )


def _robot_addresses(scene: Scene) -> RobotAddresses:
    """Returns the addresses of a scene's robot."""
    robot = scene.robot
    return RobotAddresses(
        tuple(robot.arm_qpos.tolist()), tuple(robot.finger_qpos.tolist()), int(robot.grip_site), int(robot.hand_body)
    )


def observe(constants: SceneConstants, poses: Poses, qpos: Float[Array, " nq"], qvel: Float[Array, " nv"]) -> Seen:
    """Computes the observation of a state.

    Args:
      constants: from `make_constants`.
      poses: of this state, from `forward_kinematics`.
      qpos: joint positions.
      qvel: joint velocities.
    """
    robot = constants.robot
    position, hand = poses.site_xpos[robot.grip_site], poses.xquat[robot.hand_body]
    fingers = np.array(robot.finger_qpos)
    # Finger joints are slides without quaternions before them, so qpos and qvel share the address.
    parts = [position, _two_columns(hand), qpos[fingers], qvel[fingers]]
    parts.append((poses.xpos[constants.bystanders] - position).ravel())
    parts.append(_atoms(constants.goal, position, poses, qpos).ravel())
    joints = qpos[np.array(robot.arm_qpos)]
    return Seen(jnp.concatenate(parts), position, axis_angle(hand), qpos[fingers], joints, qpos)


def _atoms(
    goal: GoalConstants, hand: Float[Array, "3"], poses: Poses, qpos: Float[Array, " nq"]
) -> Float[Array, "G 18"]:
    """Returns what is observed of each atom: object, region, and the ways to both."""
    kinds = goal.kinds[:, None]
    position, below = poses.xpos[goal.bodies], poses.xpos[goal.targets]
    beyond = qpos[goal.joints[:, 0]] - goal.thresholds
    open_by = position + jnp.pad(beyond[:, None], [(0, 0), (0, 2)])
    site = poses.site_xpos[goal.targets]
    region = jnp.where((kinds == CONTAIN) | (kinds == UNDER), site, jnp.where(kinds == JOINT, open_by, below))
    columns = _two_columns(poses.xquat[goal.bodies])
    rows = jnp.concatenate([position, columns, position - hand, region, region - position], axis=-1)
    return jnp.where(goal.used[:, None], rows, 0.0)


def _two_columns(quaternion: Float[Array, "*B 4"]) -> Float[Array, "*B 6"]:
    """Returns the first two columns of rotation matrices, one after the other."""
    matrix = to_matrix(quaternion)
    return jnp.concatenate([matrix[..., 0], matrix[..., 1]], axis=-1)


def to_observation(seen: Seen, physics: Float[Array, "N D"], step: Int[Array, " N"]) -> Observation:
    """Returns the observation of N worlds as the vector environment gives it, on the CPU.

    Args:
      seen: of all worlds, from `observe`.
      physics: time, qpos, qvel.
      step: control steps since the episode began.
    """
    vector, *robot = (np.asarray(array, np.float64) for array in seen[:-1])
    return Observation(vector, np.asarray(physics, np.float64), RobotState(*robot), np.asarray(step, np.int64))
