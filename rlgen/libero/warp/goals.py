"""Goals and the end of episodes in JAX: which atoms of a goal hold, given poses, joints and contacts.

The conditions are those of `physics.kernel.goal_reached` and `scenes.goals.contacts_hold`. All kinds are computed for
every atom and one is chosen, so that worlds with different goals run one program: goals of several tasks are padded to
the same number of atoms and joints, and stacked.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from rlgen.libero.physics.kernel import CONTAIN_SLACK, STACKED_REACH, UNDER_HEIGHT, UNDER_SLACK
from rlgen.libero.scenes.goals import CONTAIN, JOINT, STACKED, UNDER, Goal
from rlgen.libero.warp.kinematics import Poses
from rlgen.libero.warp.rotations import dot


@struct.dataclass
class GoalConstants:
    """A goal of G atoms; what is not here is as in `scenes.goals.Goal`.

    Attributes:
      used: False for padding, which always holds.
      touch: True where geoms must touch.
      first, second: groups of geoms of which one must touch one of the other.
    """

    used: Bool[Array, " G"]
    kinds: Int[Array, " G"]
    bodies: Int[Array, " G"]
    targets: Int[Array, " G"]
    sizes: Float[Array, "G 3"]
    joints: Int[Array, "G J"]
    thresholds: Float[Array, " G"]
    above: Bool[Array, " G"]
    inclusive: Bool[Array, " G"]
    every: Bool[Array, " G"]
    touch: Bool[Array, " G"]
    first: Bool[Array, "G geoms"]
    second: Bool[Array, "G geoms"]


def make_goal_constants(
    goal: Goal, geoms: int, *, atoms: int | None = None, joints: int | None = None
) -> GoalConstants:
    """Returns the arrays of a goal.

    Args:
      goal: of a scene.
      geoms: number of geoms in the scene.
      atoms: pad to so many; as many as the goal has by default.
      joints: pad to so many joints of an atom; as many as the goal has by default.

    Raises:
      ValueError: the goal has more atoms or joints than that.
    """
    count, width = goal.joints.shape
    rows = (0, (count if atoms is None else atoms) - count)
    columns = (0, (width if joints is None else joints) - width)
    none = np.zeros(geoms, bool)
    groups = [(none, none) if contact is None else (contact.first, contact.second) for contact in goal.contacts]
    arrays = {
        **{name: getattr(goal, name) for name in ("kinds", "bodies", "targets", "sizes", "thresholds")},
        **{name: getattr(goal, name) for name in ("above", "inclusive", "every")},
        "used": np.ones(count, bool),
        "touch": np.array([contact is not None for contact in goal.contacts]),
        "first": np.array([first for first, _ in groups]),
        "second": np.array([second for _, second in groups]),
    }
    padded = {name: np.pad(array, [rows] + [(0, 0)] * (array.ndim - 1)) for name, array in arrays.items()}
    padded["joints"] = np.pad(goal.joints, [rows, columns], constant_values=-1)
    return GoalConstants(**{name: jnp.asarray(array) for name, array in padded.items()})


def goal_reached(
    goal: GoalConstants, poses: Poses, qpos: Float[Array, " nq"], touching: Bool[Array, " G"]
) -> Bool[Array, ""]:
    """Returns whether a goal holds, as the benchmark checks it after a control step.

    Args:
      goal: from `make_goal_constants`.
      poses: of the last physics pass, that is before its integration.
      qpos: joint positions after it.
      touching: from `atoms_touching`, of the contacts of the same pass.
    """
    return jnp.all(atoms_hold(goal, poses, qpos) & (touching | ~goal.touch))


def atoms_hold(goal: GoalConstants, poses: Poses, qpos: Float[Array, " nq"]) -> Bool[Array, " G"]:
    """Returns which atoms of a goal hold, contacts aside; arguments as of `goal_reached`."""
    position, below = poses.xpos[goal.bodies], poses.xpos[goal.targets]
    center, rotation = poses.site_xpos[goal.targets], poses.site_xmat[goal.targets]
    kinds = [CONTAIN, UNDER, STACKED, JOINT]
    holds = [
        _contains(position, center, rotation, goal.sizes),
        _lies_on(position, center, rotation, goal.sizes),
        _stacked(position, below),
        _joints_meet(goal, qpos),
    ]
    return jnp.select([goal.kinds == kind for kind in kinds], holds, False) | ~goal.used


def _contains(
    position: Float[Array, "G 3"],
    center: Float[Array, "G 3"],
    rotation: Float[Array, "G 3 3"],
    size: Float[Array, "G 3"],
) -> Bool[Array, " G"]:
    """Returns whether points are in the boxes of sites, rotated as the benchmark rotates them."""
    reach = jnp.abs(dot(rotation, size[:, None]))
    low = center - reach - jnp.array([0.0, 0.0, CONTAIN_SLACK], center.dtype)
    return jnp.all((low < position) & (position < center + reach), axis=-1)


def _lies_on(
    position: Float[Array, "G 3"],
    center: Float[Array, "G 3"],
    rotation: Float[Array, "G 3 3"],
    size: Float[Array, "G 3"],
) -> Bool[Array, " G"]:
    """Returns whether points are above the boxes of sites."""
    # Multiplied by the rotation, where its inverse would be expected, as in the benchmark.
    way = dot(rotation, (position - center)[:, None])
    above = (size[:, 2] - UNDER_SLACK < way[:, 2]) & (way[:, 2] < size[:, 2] + UNDER_HEIGHT)
    return above & jnp.all(jnp.abs(way[:, :2]) < size[:, :2], axis=-1)


def _stacked(position: Float[Array, "G 3"], below: Float[Array, "G 3"]) -> Bool[Array, " G"]:
    """Returns whether points are not lower than those below, and near them seen from above."""
    away = (below - position)[:, :2]
    return (below[:, 2] <= position[:, 2]) & (jnp.sqrt(dot(away, away)) < STACKED_REACH)


def _joints_meet(goal: GoalConstants, qpos: Float[Array, " nq"]) -> Bool[Array, " G"]:
    """Returns whether one joint of each atom meets its condition, or all do where `every` is set."""
    values, thresholds = qpos[goal.joints], goal.thresholds[:, None]
    meets = jnp.where(values == thresholds, goal.inclusive[:, None], (values > thresholds) == goal.above[:, None])
    exists = goal.joints >= 0
    return jnp.where(goal.every, jnp.all(meets | ~exists, axis=-1), jnp.any(meets & exists, axis=-1))


def atoms_touching(
    goal: GoalConstants, pairs: Int[Array, "C 2"], worlds: Int[Array, " C"], count: int
) -> Bool[Array, "N G"]:
    """Returns for which atoms the geoms touch that must, in all worlds at once.

    It takes the contacts of all worlds as one list, as MuJoCo Warp has them, and is not mapped over worlds.

    Args:
      goal: one for all worlds, or stacked, one for each.
      pairs: the two geoms of each contact.
      worlds: the world of each contact; those outside of 0..N-1 are no contacts but free places of the list.
      count: N.
    """
    exists = (worlds >= 0) & (worlds < count)
    one, other = (jnp.where(exists, pairs[:, k], 0) for k in (0, 1))
    if goal.first.ndim == 2:
        first, second = (lambda geoms: goal.first[:, geoms].T), (lambda geoms: goal.second[:, geoms].T)
    else:
        own = jnp.where(exists, worlds, 0)
        first, second = (lambda geoms: goal.first[own, :, geoms]), (lambda geoms: goal.second[own, :, geoms])
    touch = (first(one) & second(other)) | (first(other) & second(one))
    found = jax.ops.segment_max(touch.astype(jnp.int32), jnp.where(exists, worlds, count), count + 1)
    return found[:count] > 0


class Outcome(NamedTuple):
    """The end of a chunk of actions in one world; as of `envs.vector_env.ChunkResult`."""

    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]


def outcome(
    reached: Bool[Array, ""], failed: Bool[Array, ""], control_steps: Int[Array, ""], horizon: Int[Array, ""]
) -> Outcome:
    """Returns reward and end of a chunk of actions.

    Args:
      reached: the goal was reached within the chunk.
      failed: the world overflowed or diverged, and its chunk is void.
      control_steps: since the episode began, this chunk included.
      horizon: control steps after which an episode ends.
    """
    terminated = reached & ~failed
    truncated = ~terminated & (failed | (control_steps >= horizon))
    return Outcome(terminated.astype(jnp.float32), terminated, truncated)
