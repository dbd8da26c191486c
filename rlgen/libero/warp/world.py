"""N worlds of a task on an accelerator, as pure functions on arrays: a whole rollout is one compiled program.

    world = WarpWorld(scene, worlds=1024)
    state, seen = jax.jit(world.reset)(world.training_states[rows])
    state, step = jax.jit(world.step)(state, actions)  # a control step, of 25 physics steps

A control step computes what the compiled one on the CPU does (`physics.kernel`): controller, gripper, physics, goal.
Buffers on the device have a fixed size. A world in which one overflowed has lost contacts, and one that became infinite
has lost everything: both have `failed`, stay where they were before that control step, and their episodes are void.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from rlgen.core.errors import UserError
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.warp.controller import ControlState, control, set_goal, start_controller
from rlgen.libero.warp.device import load_warp
from rlgen.libero.warp.goals import Outcome, atoms_touching, goal_reached, outcome
from rlgen.libero.warp.kinematics import Poses, forward_kinematics
from rlgen.libero.warp.models import Room, accelerator_model, reset_states, settled_gripper
from rlgen.libero.warp.observation import Seen, make_constants, observe

# Of MuJoCo Warp's flags the first nine say that contacts or constraints were dropped, the others that a solver
# stopped early.
DROPPED = (1 << 9) - 1
# Policies of MuJoCo for trees of bodies without actuators.
_MAY_SLEEP = (
    int(mujoco.mjtSleepPolicy.mjSLEEP_AUTO_ALLOWED),
    int(mujoco.mjtSleepPolicy.mjSLEEP_ALLOWED),
    int(mujoco.mjtSleepPolicy.mjSLEEP_INIT),
)


@struct.dataclass
class WorldState:
    """N worlds between two control steps.

    Attributes:
      data: MJX's data.
      controller: of each world.
      time: simulated seconds.
      control_steps: since the episode began.
      overflow: MuJoCo Warp's flags since the episode began; see `DROPPED`.
    """

    data: Any
    controller: ControlState
    time: Float[Array, " N"]
    control_steps: Int[Array, " N"]
    overflow: Int[Array, " N"]

    def physics(self) -> Float[Array, "N D"]:
        """Returns time, qpos, qvel."""
        return jnp.concatenate([self.time[:, None], self.data.qpos, self.data.qvel], axis=-1)


class StepResult(NamedTuple):
    """The outcome of a control step in N worlds.

    Attributes:
      seen: the observation of the state after it.
      reward, terminated, truncated: as of `goals.Outcome`.
      failed: the world overflowed or became infinite.
    """

    seen: Seen
    reward: Float[Array, " N"]
    terminated: Bool[Array, " N"]
    truncated: Bool[Array, " N"]
    failed: Bool[Array, " N"]


class WarpWorld:
    """N worlds of one task; its methods are pure functions of their arguments.

    Attributes:
      scene: the task's scene.
      worlds: N.
      horizon: control steps of an episode.
      constants: of the scene, for the functions of this room.
      training_states: the scene's reset states of training, settled, `[R, D]`.
      room: the size of a world's buffers.
    """

    def __init__(
        self,
        scene: Scene,
        worlds: int,
        *,
        horizon: int | None = None,
        room: Room | None = None,
        sleep: bool = False,
        awake: int | None = None,
    ):
        """Puts the model on the device.

        Args:
          scene: the task's scene.
          worlds: number of worlds N.
          horizon: control steps of an episode; the task's own by default.
          room: the size of a world's buffers; counted in the scene by default, with head-room.
          sleep: let resting objects sleep.
          awake: degrees of freedom that may be awake in a world at once, for which the solver is made; all by default.
            A world with more of them awake fails.

        Raises:
          UserError: MuJoCo Warp is not installed, or `awake` is given without `sleep`.
        """
        mjx = load_warp().mjx
        if awake is not None and not sleep:
            raise UserError(f"awake is {awake} without sleep, expected None; turn sleep on, or leave awake out")
        self.scene, self.worlds = scene, worlds
        self.horizon = scene.task.horizon if horizon is None else horizon
        self.constants, start = make_constants(scene), reset_states(scene)
        self.training_states = jnp.asarray(start.train, jnp.float32)
        self.room = start.counted.with_head_room() if room is None else room
        self._gripper = settled_gripper(scene)
        model = accelerator_model(scene, sleep=sleep)
        self._asleep_below = model.opt.sleep_tolerance if sleep else 0.0
        device_model = mjx.put_model(model, impl="warp")
        # Flags are read at every control step; printing them from a kernel would cost more than they do.
        self._model = device_model.tree_replace({"opt._impl.warn_overflow": 0})
        contacts, constraints = worlds * self.room.contacts, self.room.constraints
        self._fresh = mjx.make_data(model, impl="warp", naconmax=contacts, njmax=constraints, nvmax=awake)
        self._physics_step = jax.vmap(mjx.step, in_axes=(None, 0))

    def reset(self, states: Float[Array, "N D"]) -> tuple[WorldState, Seen]:
        """Starts an episode in every world, with the fingers as settling leaves them.

        Args:
          states: time, qpos, qvel, settled (`models.settle`).
        """
        nq, states, fresh = self.scene.model.nq, states.astype(jnp.float32), self._fresh
        start_world = jax.vmap(lambda qpos, qvel: self._asleep(fresh.replace(qpos=qpos, qvel=qvel)))
        data = start_world(states[:, 1 : 1 + nq], states[:, 1 + nq :])
        start = start_controller(self.constants.controller).replace(gripper=jnp.asarray(self._gripper, jnp.float32))
        controller = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (self.worlds, *leaf.shape)), start)
        zeros = jnp.zeros((self.worlds,), jnp.int32)
        state = WorldState(data, controller, states[:, 0], zeros, zeros)
        return state, self.observe(state)

    def _asleep(self, data: Any) -> Any:
        """Puts objects to sleep that are so slow that they may, and stops them, for any velocity wakes them."""
        if not self._asleep_below:
            return data
        model = self.scene.model
        speeds = jnp.abs(data.qvel) * model.dof_length
        fastest = jax.ops.segment_max(speeds, model.dof_treeid, model.ntree)
        rests = (fastest < self._asleep_below) & np.isin(model.tree_sleep_policy, _MAY_SLEEP)
        # Each by itself: its own number says whom it sleeps with. What is asleep and awake as well would be woken.
        asleep = jnp.where(rests, jnp.arange(model.ntree), data._impl.tree_asleep)
        awake = jnp.where(rests, 0, data._impl.tree_awake)
        qvel = jnp.where(rests[model.dof_treeid], 0.0, data.qvel)
        return data.replace(qvel=qvel).tree_replace({"_impl.tree_asleep": asleep, "_impl.tree_awake": awake})

    def reset_rows(
        self, state: WorldState, rows: Bool[Array, " N"], states: Float[Array, "N D"]
    ) -> tuple[WorldState, Seen]:
        """Starts an episode in some worlds.

        Args:
          state: of all worlds.
          rows: True for these worlds.
          states: settled; read for these worlds.
        """
        merged = select(rows, self.reset(states)[0], state)
        return merged, self.observe(merged)

    def observe(self, state: WorldState) -> Seen:
        """Returns the observation of every world."""
        constants, data = self.constants, state.data
        poses = jax.vmap(forward_kinematics, in_axes=(None, 0))(constants.tree, data.qpos)
        observe_all = jax.vmap(observe, in_axes=(None, 0, 0, 0))
        return observe_all(constants, poses, data.qpos, data.qvel)

    def step(
        self, state: WorldState, actions: Float[Array, "N 7"], active: Bool[Array, " N"] | None = None
    ) -> tuple[WorldState, StepResult]:
        """Takes a control step in every world.

        Args:
          state: of all worlds.
          actions: clipped to [-1, 1].
          active: worlds that take it, the others stay as they are and end nothing; all by default.
        """
        active = jnp.ones((self.worlds,), bool) if active is None else active
        stepped, reached = self._control_step(state, actions.astype(jnp.float32))
        finite = jnp.isfinite(stepped.data.qpos).all(-1) & jnp.isfinite(stepped.data.qvel).all(-1)
        failed = active & (~finite | ((stepped.overflow & DROPPED) > 0))
        after = select(active & ~failed, stepped, state)
        after = after.replace(overflow=jnp.where(active, stepped.overflow, state.overflow))
        ends = jax.vmap(outcome, in_axes=(0, 0, 0, None))(reached, failed, after.control_steps, self.horizon)
        ends = Outcome(*(jnp.where(active, value, 0).astype(value.dtype) for value in ends))
        return after, StepResult(self.observe(after), *ends, failed)

    def physics_step(self, data: Any) -> Any:
        """Takes one physics step in every world, with the controls that are in MJX's data."""
        return self._physics_step(self._model, data)

    def _control_step(self, state: WorldState, actions: Float[Array, "N 7"]) -> tuple[WorldState, Bool[Array, " N"]]:
        """Steps all worlds; returns whether their goals are reached."""
        constants, substeps = self.constants.controller, self.constants.controller.substeps
        start = jax.vmap(set_goal, in_axes=(None, 0, 0, 0))(constants, state.controller, state.data.qpos, actions)
        controls = jax.vmap(control, in_axes=(None, 0, 0, 0))

        def substep(_: int, carry: tuple) -> tuple:
            data, controller, overflow = carry
            controller, ctrl = controls(constants, controller, data.qpos, data.qvel)
            data = self.physics_step(data.replace(ctrl=ctrl))
            return data, controller, overflow | data._impl.overflow

        carry = (state.data, start, state.overflow)
        data, controller, overflow = jax.lax.fori_loop(0, substeps, substep, carry)
        seconds = substeps * float(self.scene.model.opt.timestep)
        after = WorldState(data, controller, state.time + seconds, state.control_steps + 1, overflow)
        return after, self._reached(data)

    def _reached(self, data: Any) -> Bool[Array, " N"]:
        """Returns whether goals hold: by poses and contacts of the last physics pass, and the joints after it."""
        goal = self.constants.goal
        poses = Poses(data.xpos, data.xquat, data.site_xpos, data.site_xmat)
        touching = jnp.zeros((self.worlds, len(self.scene.goal.atoms)), bool)
        if self.scene.goal.needs_contact:
            impl = data._impl
            # Of the list of contacts, which all worlds share, the first `nacon` places are filled.
            filled = jnp.arange(impl.contact__worldid.shape[-1]) < impl.nacon.max()
            worlds = jnp.where(filled, impl.contact__worldid, -1)
            touching = atoms_touching(goal, impl.contact__geom, worlds, self.worlds)
        return jax.vmap(goal_reached, in_axes=(None, 0, 0, 0))(goal, poses, data.qpos, touching)


def select(rows: Bool[Array, " N"], chosen: WorldState, other: WorldState) -> WorldState:
    """Returns `chosen` for some worlds, and `other` for the rest.

    What all worlds share on the device, as the list of contacts, is that of `other`; the next step computes it anew.

    Args:
      rows: True for worlds of `chosen`.
      chosen: of all worlds.
      other: of all worlds.
    """
    data = jax.vmap(lambda row, one, two: two.where(row, one))(rows, chosen.data, other.data)

    def pick(one: Array, two: Array) -> Array:
        return jnp.where(rows.reshape(-1, *[1] * (one.ndim - 1)), one, two)

    rest = jax.tree.map(pick, chosen.replace(data=None), other.replace(data=None))
    return rest.replace(data=data)
