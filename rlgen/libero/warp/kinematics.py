"""Forward kinematics of a whole scene: poses of all bodies and sites from joint positions alone."""

import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from rlgen.core.errors import UserError
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.warp.rotations import multiply, rotate, to_matrix

# Kinds of joints; a body has one at most, and `FIXED` is none.
FIXED, FREE, SLIDE, HINGE = range(4)
_KINDS = {mujoco.mjtJoint.mjJNT_FREE: FREE, mujoco.mjtJoint.mjJNT_SLIDE: SLIDE, mujoco.mjtJoint.mjJNT_HINGE: HINGE}


@struct.dataclass
class Tree:
    """The bodies of a scene, in MuJoCo's order.

    Attributes:
      parents: of each body.
      kinds: of each body's joint: `FIXED`, `FREE`, `SLIDE` or `HINGE`.
      addresses: of each body's joint in qpos, 0 where it has none.
      body_positions, body_quaternions: of each body relative to its parent.
      joint_positions, joint_axes: of each body's joint relative to the body.
      joint_zeros: joint position at which the body stands as its pose says.
      site_bodies: the body of each site.
      site_positions, site_quaternions: of each site relative to its body.
      fixture_bodies: bodies of the fixtures, in the order of their poses; empty where the bundle does not say.
    """

    parents: tuple[int, ...] = struct.field(pytree_node=False)
    kinds: tuple[int, ...] = struct.field(pytree_node=False)
    addresses: tuple[int, ...] = struct.field(pytree_node=False)
    site_bodies: tuple[int, ...] = struct.field(pytree_node=False)
    fixture_bodies: tuple[int, ...] = struct.field(pytree_node=False)
    body_positions: Float[Array, "bodies 3"]
    body_quaternions: Float[Array, "bodies 4"]
    joint_positions: Float[Array, "bodies 3"]
    joint_axes: Float[Array, "bodies 3"]
    joint_zeros: Float[Array, " bodies"]
    site_positions: Float[Array, "sites 3"]
    site_quaternions: Float[Array, "sites 4"]


@struct.dataclass
class Poses:
    """Positions and orientations in the world; fields are named as in MuJoCo, and may be filled from its data."""

    xpos: Float[Array, "bodies 3"]
    xquat: Float[Array, "bodies 4"]
    site_xpos: Float[Array, "sites 3"]
    site_xmat: Float[Array, "sites 3 3"]


def make_tree(scene: Scene) -> Tree:
    """Returns the tree of a scene, with its fixtures where they stand there.

    Raises:
      UserError: a body with several joints or with a ball, which no task of the benchmark has.
    """
    model = scene.model
    _check(model)
    joints = np.maximum(model.body_jntadr, 0)
    jointed = model.body_jntnum > 0
    kinds = [
        _KINDS[mujoco.mjtJoint(model.jnt_type[joint])] if has else FIXED
        for joint, has in zip(joints, jointed, strict=True)
    ]
    turns = np.isin(kinds, (SLIDE, HINGE))
    addresses = np.where(jointed, model.jnt_qposadr[joints], 0)
    samplers = scene.fixture_samplers
    return Tree(
        parents=tuple(model.body_parentid.tolist()),
        kinds=tuple(kinds),
        addresses=tuple(addresses.tolist()),
        site_bodies=tuple(model.site_bodyid.tolist()),
        fixture_bodies=() if samplers is None else tuple(scene.fixture_bodies.tolist()),
        body_positions=jnp.asarray(model.body_pos),
        body_quaternions=jnp.asarray(model.body_quat),
        joint_positions=jnp.asarray(np.where(turns[:, None], model.jnt_pos[joints], 0.0)),
        joint_axes=jnp.asarray(np.where(turns[:, None], model.jnt_axis[joints], 0.0)),
        joint_zeros=jnp.asarray(np.where(turns, model.qpos0[addresses], 0.0)),
        site_positions=jnp.asarray(model.site_pos),
        site_quaternions=jnp.asarray(model.site_quat),
    )


def _check(model: mujoco.MjModel) -> None:
    odd = np.flatnonzero(model.body_jntnum > 1)
    if len(odd):
        raise UserError(f"body {model.body(int(odd[0])).name} has several joints, expected one; use the CPU's world")
    if np.any(model.jnt_type == mujoco.mjtJoint.mjJNT_BALL) or model.nmocap:
        raise UserError("ball joints or mocap bodies, expected free bodies, slides and hinges; use the CPU's world")


def with_fixtures(tree: Tree, poses: Float[Array, "F 7"]) -> Tree:
    """Returns the tree with its fixtures elsewhere.

    Args:
      tree: of the scene.
      poses: position and quaternion (w, x, y, z) of every fixture, as of `Scene.draw_fixtures`.
    """
    bodies = np.array(tree.fixture_bodies, np.int32)
    return tree.replace(
        body_positions=tree.body_positions.at[bodies].set(poses[:, :3]),
        body_quaternions=tree.body_quaternions.at[bodies].set(poses[:, 3:]),
    )


def forward_kinematics(tree: Tree, qpos: Float[Array, " nq"]) -> Poses:
    """Computes the poses of all bodies and sites, as MuJoCo's `mj_kinematics`.

    Each body's pose relative to its parent becomes that relative to its second, fourth, eighth ancestor and so on, all
    bodies at once: the program is short, however deep the tree.

    Args:
      tree: from `make_tree`.
      qpos: joint positions; the quaternions of free bodies need not be normalized.
    """
    position, quaternion = _relative_poses(tree, qpos)
    ancestors = np.array(tree.parents, np.int32)
    while ancestors.any():
        position = position[ancestors] + rotate(quaternion[ancestors], position)
        quaternion = multiply(quaternion[ancestors], quaternion)
        ancestors = ancestors[ancestors]
    quaternion = quaternion / jnp.linalg.norm(quaternion, axis=-1, keepdims=True)
    bodies = np.array(tree.site_bodies, np.int32)
    site_xpos = position[bodies] + rotate(quaternion[bodies], tree.site_positions)
    return Poses(position, quaternion, site_xpos, to_matrix(multiply(quaternion[bodies], tree.site_quaternions)))


def _relative_poses(tree: Tree, qpos: Float[Array, " nq"]) -> tuple[Float[Array, "bodies 3"], Float[Array, "bodies 4"]]:
    """Returns the pose of every body relative to its parent; the world's is none."""
    kinds, addresses = np.array(tree.kinds), np.array(tree.addresses)
    moved = qpos[addresses] - tree.joint_zeros
    half = jnp.where(kinds == HINGE, 0.5 * moved, 0.0)[:, None]
    turn = jnp.concatenate([jnp.cos(half), jnp.sin(half) * tree.joint_axes], axis=-1)
    slid = jnp.where(kinds == SLIDE, moved, 0.0)[:, None] * tree.joint_axes
    # The joint's anchor stays where it is while the body turns about it.
    shift = slid + tree.joint_positions - rotate(turn, tree.joint_positions)
    position = tree.body_positions + rotate(tree.body_quaternions, shift)
    quaternion = multiply(tree.body_quaternions, turn)
    free = (kinds == FREE)[:, None]
    pose = qpos[np.where(free, addresses[:, None] + np.arange(7), 0)]
    position, quaternion = jnp.where(free, pose[:, :3], position), jnp.where(free, pose[:, 3:], quaternion)
    return position, quaternion / jnp.linalg.norm(quaternion, axis=-1, keepdims=True)
