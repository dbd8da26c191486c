"""Kinematics and dynamics of the arm with its fingers, from joint positions and velocities alone.

All bodies that are fixed to each other are one rigid link, lumped once when a scene is loaded: seven links and two
fingers move. With the Jacobian F of every link's center of mass (three rows in the world) and of its rotation (three
rows in its principal axes), and with the masses and principal inertias w, the mass matrix and the bias forces are

    M = sum F^T diag(w) F + diag(armature)        c = sum F^T g

where g are the forces and torques that the links need at zero joint acceleration, gravity included. Positions are
relative to the arm's base: single precision is then good for 1e-7 m. Functions compute in the precision of the
constants and joint positions that they are given.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from rlgen.core.errors import UserError
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.warp.rotations import cross, dot, product

# The arm's joints, and with those of the fingers.
ARM, MOVING = 7, 9


@struct.dataclass
class ArmConstants:
    """The arm's links, each moved by one joint about or along an axis through the link's origin.

    The rotation of a link relative to its parent is `constant + sin(q) sine + cos(q) cosine` (Rodrigues' formula).

    Attributes:
      parents: the link that each joint is on, -1 for the base.
      hinges: True for hinges, False for slides.
      qpos, dofs: addresses of the joints' positions and velocities.
      base: the base's position in the world, metres.
      zeros: joint positions at which links stand as `offsets` and rotations say.
      offsets: a link's origin relative to its parent's, in the parent's axes.
      slides: by which the origin moves for a joint position of 1, in the parent's axes; zero for hinges.
      constants, sines, cosines: see above.
      axes: of the joints, in the link's axes.
      masses: of the links, kg.
      centers: of mass, in the link's axes.
      principal: principal axes of inertia, columns in the link's axes.
      inertias: about these axes and the center of mass, kg m^2.
      armature: rotor inertia of each joint.
      gravity: m/s^2, in the world.
      grip_position, grip_rotation: of the grip site, in the axes of the last link of the arm.
    """

    parents: tuple[int, ...] = struct.field(pytree_node=False)
    hinges: tuple[bool, ...] = struct.field(pytree_node=False)
    qpos: tuple[int, ...] = struct.field(pytree_node=False)
    dofs: tuple[int, ...] = struct.field(pytree_node=False)
    base: Float[Array, "3"]
    zeros: Float[Array, "9"]
    offsets: Float[Array, "9 3"]
    slides: Float[Array, "9 3"]
    constants: Float[Array, "9 3 3"]
    sines: Float[Array, "9 3 3"]
    cosines: Float[Array, "9 3 3"]
    axes: Float[Array, "9 3"]
    masses: Float[Array, "9"]
    centers: Float[Array, "9 3"]
    principal: Float[Array, "9 3 3"]
    inertias: Float[Array, "9 3"]
    armature: Float[Array, "9"]
    gravity: Float[Array, "3"]
    grip_position: Float[Array, "3"]
    grip_rotation: Float[Array, "3 3"]


class GripPose(NamedTuple):
    """Position of the grip site relative to the arm's base, and its rotation in the world."""

    position: Float[Array, "3"]
    rotation: Float[Array, "3 3"]


class LinkFrames(NamedTuple):
    """Origins relative to the base, rotations, and joint axes of all links, in the world's axes."""

    origins: Float[Array, "9 3"]
    rotations: Float[Array, "9 3 3"]
    axes: Float[Array, "9 3"]


def make_arm_constants(scene: Scene) -> ArmConstants:
    """Lumps the bodies of a scene's arm.

    Raises:
      UserError: the joints are not seven hinges and two slides, each on a link of the arm.
    """
    model, robot = scene.model, scene.robot
    joints = _moving_joints(model, robot.arm_qpos, robot.finger_qpos)
    bodies = model.jnt_bodyid[joints]
    data = mujoco.MjData(model)
    data.qpos[:] = model.qpos0
    mujoco.mj_kinematics(model, data)
    owners = _owners(model, bodies)
    parents = [int(owners[model.body_parentid[body]]) for body in bodies]
    base = data.xpos[model.body_parentid[bodies[0]]].copy()
    rotations = data.xmat[bodies].reshape(-1, 3, 3)
    # Each link's origin is put on its joint's anchor.
    origins = data.xanchor[joints] - base
    above = np.array([np.eye(3) if parent < 0 else rotations[parent] for parent in parents])
    start = np.array([np.zeros(3) if parent < 0 else origins[parent] for parent in parents])
    axes = model.jnt_axis[joints]
    hinges = model.jnt_type[joints] == mujoco.mjtJoint.mjJNT_HINGE
    fixed = np.einsum("bji,bjk->bik", above, rotations)
    skew = np.cross(np.eye(3)[None], axes[:, None], axis=-1) * hinges[:, None, None]
    lumps = [
        _lump(model, data, np.flatnonzero(owners == link), origins[link] + base, rotations[link]) for link in range(9)
    ]
    masses, centers, principal, inertias = (np.stack(column) for column in zip(*lumps, strict=True))
    site = data.site_xpos[robot.grip_site] - base - origins[ARM - 1]
    constants = ArmConstants(
        parents=tuple(parents),
        hinges=tuple(hinges.tolist()),
        qpos=tuple(model.jnt_qposadr[joints].tolist()),
        dofs=tuple(model.jnt_dofadr[joints].tolist()),
        base=base,
        zeros=model.qpos0[model.jnt_qposadr[joints]],
        offsets=np.einsum("bji,bj->bi", above, origins - start),
        slides=np.einsum("bij,bj->bi", fixed, axes) * ~hinges[:, None],
        constants=fixed @ (np.eye(3) + skew @ skew),
        sines=fixed @ skew,
        cosines=-fixed @ skew @ skew,
        axes=axes,
        masses=masses,
        centers=centers,
        principal=principal,
        inertias=inertias,
        armature=model.dof_armature[model.jnt_dofadr[joints]],
        gravity=model.opt.gravity,
        grip_position=rotations[ARM - 1].T @ site,
        grip_rotation=rotations[ARM - 1].T @ data.site_xmat[robot.grip_site].reshape(3, 3),
    )
    return jax.tree.map(np.asarray, constants)


def _moving_joints(
    model: mujoco.MjModel, arm: Int[np.ndarray, "7"], fingers: Int[np.ndarray, "2"]
) -> Int[np.ndarray, "9"]:
    joints = np.array([np.flatnonzero(model.jnt_qposadr == address)[0] for address in (*arm, *fingers)])
    hinge, slide = mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE
    if model.jnt_type[joints].tolist() != [hinge] * ARM + [slide] * (MOVING - ARM):
        raise UserError(f"joints of the robot are {model.jnt_type[joints].tolist()}, expected seven hinges, two slides")
    return joints


def _owners(model: mujoco.MjModel, bodies: Int[np.ndarray, "9"]) -> Int[np.ndarray, " bodies"]:
    """Returns the link that each body of the model is fixed to, -1 for none of the arm's."""
    links = {int(body): link for link, body in enumerate(bodies)}
    owners = np.full(model.nbody, -1)
    for body in range(1, model.nbody):
        moves = model.body_jntnum[body] > 0
        owners[body] = links.get(body, -1 if moves else owners[model.body_parentid[body]])
    return owners


def _lump(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    bodies: Int[np.ndarray, " M"],
    origin: Float[np.ndarray, "3"],
    rotation: Float[np.ndarray, "3 3"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns mass, center, principal axes and inertias of some bodies as one, in the axes of a link."""
    masses = model.body_mass[bodies]
    center = masses @ data.xipos[bodies] / masses.sum()
    total = np.zeros((3, 3))
    for body, mass in zip(bodies, masses, strict=True):
        own, away = data.ximat[body].reshape(3, 3), data.xipos[body] - center
        total += own @ np.diag(model.body_inertia[body]) @ own.T + mass * (
            away @ away * np.eye(3) - np.outer(away, away)
        )
    inertias, principal = np.linalg.eigh(rotation.T @ total @ rotation)
    # Vector products need axes that are right-handed.
    principal[:, 0] *= np.linalg.det(principal)
    return masses.sum(), rotation.T @ (center - origin), principal, inertias


def arm_frames(arm: ArmConstants, qpos: Float[Array, " nq"]) -> LinkFrames:
    """Computes where the links are.

    Args:
      arm: from `make_arm_constants`.
      qpos: joint positions of the whole scene.
    """
    moved = qpos[np.array(arm.qpos)] - arm.zeros
    sine, cosine = jnp.sin(moved)[:, None, None], jnp.cos(moved)[:, None, None]
    rotations = arm.constants + sine * arm.sines + cosine * arm.cosines
    origins = arm.offsets + moved[:, None] * arm.slides
    # Relative to the parent, then to its parent, then to the fourth and the eighth link before.
    parents = np.array(arm.parents)
    while (parents >= 0).any():
        has = parents >= 0
        above = jnp.where(has[:, None, None], rotations[parents], jnp.eye(3, dtype=rotations.dtype))
        start = jnp.where(has[:, None], origins[parents], 0.0)
        rotations, origins = product(above, rotations), start + product(above, origins[..., None])[..., 0]
        parents = np.where(has, parents[parents], -1)
    return LinkFrames(origins, rotations, product(rotations, arm.axes[..., None])[..., 0])


def grip_pose(arm: ArmConstants, frames: LinkFrames) -> GripPose:
    """Returns the pose of the grip site, from the frames of the links."""
    rotation = frames.rotations[ARM - 1]
    offset = product(rotation, arm.grip_position[:, None])[:, 0]
    return GripPose(frames.origins[ARM - 1] + offset, product(rotation, arm.grip_rotation))


def grip_jacobian(frames: LinkFrames, grip: GripPose) -> Float[Array, "6 7"]:
    """Returns the Jacobian of the grip site: three linear rows, then three angular ones."""
    axes, origins = frames.axes[:ARM], frames.origins[:ARM]
    return jnp.concatenate([cross(axes, grip.position - origins), axes], axis=-1).T


def _ancestors(parents: tuple[int, ...]) -> Bool[np.ndarray, "9 9"]:
    """Returns for every link which joints move it, its own included."""
    moves = np.eye(len(parents), dtype=bool)
    for link, parent in enumerate(parents):
        if parent >= 0:
            moves[link] |= moves[parent]
    return moves


def inertia_and_bias(
    arm: ArmConstants, frames: LinkFrames, velocities: Float[Array, "9"]
) -> tuple[Float[Array, "7 7"], Float[Array, "7"]]:
    """Computes mass matrix and bias forces of the arm's joints; fingers count as load that moves.

    Args:
      arm: from `make_arm_constants`.
      frames: from `arm_frames`.
      velocities: of the joints of arm and fingers.

    Returns:
      The mass matrix; Coriolis, centrifugal and gravitational forces, N m. The equations are in the module's docstring.
    """
    moves, hinges = _ancestors(arm.parents), np.array(arm.hinges)
    # Joints turn (hinges) or shift (slides) every link beyond them: masks of [link, joint].
    turns, shifts = (np.where(moves & kind, np.float32(1), np.float32(0))[..., None] for kind in (hinges, ~hinges))
    axes, origins = frames.axes, frames.origins
    centers = origins + product(frames.rotations, arm.centers[..., None])[..., 0]
    # Joint axes are fixed in the link that the joint moves, and turn with it.
    angular = _sum(turns * axes, velocities)
    swings = cross(angular, axes)

    center_levers, origin_levers = (points[:, None] - origins for points in (centers, origins))
    to_centers, to_origins = (turns * cross(axes, levers) + shifts * axes for levers in (center_levers, origin_levers))
    rates = _sum(to_centers, velocities)[:, None] - _sum(to_origins, velocities)
    changes = turns * (cross(swings, center_levers) + cross(axes, rates)) + shifts * swings
    acceleration = _sum(changes, velocities) - arm.gravity

    inward = jnp.swapaxes(product(frames.rotations, arm.principal), 1, 2)
    own_angular = product(inward, angular[..., None])[..., 0]
    own_acceleration = product(inward, _sum(turns * swings, velocities)[..., None])[..., 0]
    torque = arm.inertias * own_acceleration + cross(own_angular, arm.inertias * own_angular)
    to_principal = dot(inward[:, None], (turns * axes)[:, :, None])
    jacobian = jnp.concatenate([to_centers, to_principal], axis=-1)[:, :ARM]
    weights = jnp.concatenate([jnp.repeat(arm.masses[:, None], 3, axis=1), arm.inertias], axis=-1)
    forces = jnp.concatenate([arm.masses[:, None] * acceleration, torque], axis=-1)
    mass = jnp.einsum("bik,bjk->ij", jacobian, weights[:, None] * jacobian, precision="highest")
    bias = jnp.einsum("bik,bk->i", jacobian, forces, precision="highest")
    return mass + jnp.diag(arm.armature[:ARM]), bias


def _sum(vectors: Float[Array, "9 9 3"], weights: Float[Array, "9"]) -> Float[Array, "9 3"]:
    """Returns the weighted sum over the joints, for each link."""
    return jnp.einsum("bjk,j->bk", vectors, weights, precision="highest")
