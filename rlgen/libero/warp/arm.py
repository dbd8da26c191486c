"""Kinematics and dynamics of the arm with its fingers, from joint positions and velocities alone.

All bodies that are fixed to each other are one rigid link, lumped once when a scene is loaded: seven links and two
fingers move. With the Jacobian F of every link's center of mass (three rows in the world) and of its rotation (three
rows in its principal axes), and with the masses and principal inertias w, the mass matrix and the bias forces are

    M = sum F^T diag(w) F + diag(armature)        c = sum F^T g

where g are the forces and torques that the links need at zero joint acceleration, gravity included. Positions are
relative to the arm's base: single precision is then good for 1e-7 m.
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
from rlgen.libero.warp.linear import cross, product

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


class ArmDynamics(NamedTuple):
    """What the controller needs of the arm in one state.

    Attributes:
      grip: pose of the grip site.
      jacobian: of the grip site: three linear rows, then three angular ones.
      mass: mass matrix.
      bias: Coriolis, centrifugal and gravitational forces, N m.
    """

    grip: GripPose
    jacobian: Float[Array, "6 7"]
    mass: Float[Array, "7 7"]
    bias: Float[Array, "7"]


class _Frames(NamedTuple):
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
    return jax.tree.map(jnp.asarray, constants)


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
    return masses.sum(), rotation.T @ (center - origin), principal, inertias


def grip_pose(arm: ArmConstants, qpos: Float[Array, " nq"]) -> GripPose:
    """Returns the pose of the grip site.

    Args:
      arm: from `make_arm_constants`.
      qpos: joint positions of the whole scene.
    """
    return _grip_pose(arm, _frames(arm, qpos))


def arm_dynamics(arm: ArmConstants, qpos: Float[Array, " nq"], qvel: Float[Array, " nv"]) -> ArmDynamics:
    """Computes what the controller needs of the arm; fingers count as load that moves.

    Args:
      arm: from `make_arm_constants`.
      qpos: joint positions of the whole scene.
      qvel: joint velocities of the whole scene.
    """
    frames = _frames(arm, qpos)
    grip = _grip_pose(arm, frames)
    axes, origins = frames.axes[:ARM], frames.origins[:ARM]
    jacobian = jnp.concatenate([cross(axes, grip.position - origins), axes], axis=-1).T
    mass, bias = _inertia_and_bias(arm, frames, qvel[np.array(arm.dofs)])
    return ArmDynamics(grip, jacobian, mass, bias)


def _frames(arm: ArmConstants, qpos: Float[Array, " nq"]) -> _Frames:
    moved = qpos[np.array(arm.qpos)] - arm.zeros
    sine, cosine = jnp.sin(moved)[:, None, None], jnp.cos(moved)[:, None, None]
    local = arm.constants + sine * arm.sines + cosine * arm.cosines
    slid = jnp.where(np.array(arm.hinges), 0.0, moved)
    origins, rotations, axes = [], [], []
    for link, parent in enumerate(arm.parents):
        rotation = local[link] if parent < 0 else product(rotations[parent], local[link])
        axis = product(rotation, arm.axes[link][:, None])[:, 0]
        offset = arm.offsets[link] if parent < 0 else product(rotations[parent], arm.offsets[link][:, None])[:, 0]
        start = 0.0 if parent < 0 else origins[parent]
        origins.append(start + offset + slid[link] * axis)
        rotations.append(rotation)
        axes.append(axis)
    return _Frames(jnp.stack(origins), jnp.stack(rotations), jnp.stack(axes))


def _grip_pose(arm: ArmConstants, frames: _Frames) -> GripPose:
    rotation = frames.rotations[ARM - 1]
    offset = product(rotation, arm.grip_position[:, None])[:, 0]
    return GripPose(frames.origins[ARM - 1] + offset, product(rotation, arm.grip_rotation))


def _ancestors(parents: tuple[int, ...]) -> Bool[np.ndarray, "9 9"]:
    """Returns for every link which joints move it, its own included."""
    moves = np.eye(len(parents), dtype=bool)
    for link, parent in enumerate(parents):
        if parent >= 0:
            moves[link] |= moves[parent]
    return moves


def _inertia_and_bias(
    arm: ArmConstants, frames: _Frames, velocities: Float[Array, "9"]
) -> tuple[Float[Array, "7 7"], Float[Array, "7"]]:
    """Computes mass matrix and bias forces of the arm's joints; the equations are in the module's docstring."""
    moves = _ancestors(arm.parents)
    # Joints turn (hinges) or shift (slides) every link beyond them: masks of [link, joint].
    turns, shifts = (jnp.where(moves & kind, 1.0, 0.0) for kind in (np.array(arm.hinges), ~np.array(arm.hinges)))
    axes, origins = frames.axes, frames.origins
    centers = origins + product(frames.rotations, arm.centers[..., None])[..., 0]
    angular = _sum(turns * velocities, axes)
    # Joint axes are fixed in the link that the joint moves, and turn with it.
    swings = cross(angular, axes)
    angular_acceleration = _sum(turns * velocities, swings)

    def linear_jacobian(points):
        levers = points[:, None] - origins[None]
        return turns[..., None] * cross(axes[None], levers) + shifts[..., None] * axes[None]

    to_centers, to_origins = linear_jacobian(centers), linear_jacobian(origins)
    center_velocity, origin_velocity = (
        jnp.einsum("bjk,j->bk", jacobian, velocities, precision="highest") for jacobian in (to_centers, to_origins)
    )
    levers, lever_rates = centers[:, None] - origins[None], center_velocity[:, None] - origin_velocity[None]
    rates = (
        turns[..., None] * (cross(swings[None], levers) + cross(axes[None], lever_rates))
        + shifts[..., None] * swings[None]
    )
    acceleration = jnp.einsum("bjk,j->bk", rates, velocities, precision="highest") - arm.gravity

    inward = product(frames.rotations, arm.principal)
    to_principal = jnp.einsum("bkp,jk->bjp", inward, axes, precision="highest") * turns[..., None]
    own_angular, own_acceleration = (
        jnp.einsum("bkp,bk->bp", inward, vectors, precision="highest") for vectors in (angular, angular_acceleration)
    )
    torque = arm.inertias * own_acceleration + cross(own_angular, arm.inertias * own_angular)
    jacobian = jnp.concatenate([to_centers, to_principal], axis=-1)[:, :ARM]
    weights = jnp.concatenate([jnp.repeat(arm.masses[:, None], 3, axis=1), arm.inertias], axis=-1)
    forces = jnp.concatenate([arm.masses[:, None] * acceleration, torque], axis=-1)
    mass = jnp.einsum("bik,bk,bjk->ij", jacobian, weights, jacobian, precision="highest")
    bias = jnp.einsum("bik,bk->i", jacobian, forces, precision="highest")
    return mass + jnp.diag(arm.armature[:ARM]), bias


def _sum(weights: Float[Array, "9 9"], vectors: Float[Array, "9 3"]) -> Float[Array, "9 3"]:
    return jnp.einsum("bj,jk->bk", weights, vectors, precision="highest")
