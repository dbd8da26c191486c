"""Wide reset states: a task's training reset states with objects and robot moved, each checked in exact physics.

A wide state is drawn from the training reset state of the same index and from a seed of its own, so that it does not
depend on the other ones. The first use of a task's draws all of them, in a minute or two, and keeps them in its bundle.
"""

import copy
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property

import mujoco
import numpy as np
from jaxtyping import Float

from rlgen.core.errors import UserError
from rlgen.core.files import atomic_path
from rlgen.libero.envs.environment import SETTLE_ACTION, DivergedError, Environment
from rlgen.libero.envs.reset_check import unmet_reset_conditions
from rlgen.libero.physics import kernel, kernel_arrays
from rlgen.libero.scenes.goals import JOINT, STACKED, contacts_hold
from rlgen.libero.scenes.scene import Resets, Scene
from rlgen.libero.scenes.wide import CLEARANCE, JOINTS, ObjectLayout

# Of the draws; the number in the name of the file in the bundle is raised where other ones are drawn.
SEED, FORMAT = 0, 3
# Most draws of a state, and how many of them come from the whole ranges; those of the others shrink, to a fifth.
DRAWS, FULL, LEAST = 400, 300, 0.2
# Control steps after settling, how far an object may move in the last of them, and how far it may fall in all, metres:
# or as far as in its standard state, since the benchmark itself drops some, with this much for the way it lands.
REST, LAST, STILL, FALL, LANDING = np.tile(SETTLE_ACTION, (20, 1)), 10, 0.005, 0.10, 0.02


def with_resets(scene: Scene, resets: Resets) -> Scene:
    """Returns the scene with the training reset states that are asked for; its stored states are the same.

    Args:
      scene: with standard training reset states.
      resets: `standard`, or `wide` for those of `wide_states`.

    Raises:
      UserError: an unknown word, or a task of which no wide state can be drawn.
    """
    if resets not in ("standard", "wide"):
        raise UserError(f"unknown resets {resets!r}, expected 'standard' or 'wide'")
    if resets == scene.resets:
        return scene
    if resets == "standard":
        raise UserError(f"{scene.task.id} has wide resets already; load the scene anew for standard ones")
    return replace(scene, training_states=wide_states(scene), resets="wide")


def with_split(scene: Scene, split: str) -> Scene:
    """Returns the scene with the initial states of a split: `train`, `wide` or `heldout`."""
    return with_resets(scene, "wide") if split == "wide" else scene


def wide_states(scene: Scene) -> Float[np.ndarray, "R D"]:
    """Returns a wide state for every training reset state, from the scene's bundle where they are kept.

    Args:
      scene: with standard training reset states.
    """
    file = scene.folder / f"wide-{FORMAT}-{mujoco.__version__}.npy"
    if file.exists():
        return np.load(file, allow_pickle=False)
    kernel.link_mujoco()
    drawer, workers = WideDraws(scene), os.cpu_count() or 1
    parts = np.array_split(np.arange(len(scene.bundled_states)), workers)
    with ThreadPoolExecutor(workers) as threads:
        states = np.concatenate([part for part in threads.map(drawer.draw_some, parts) if len(part)])
    if os.access(scene.folder, os.W_OK):
        with atomic_path(file) as temporary, open(temporary, "wb") as out:
            np.save(out, states)
    return states


class WideDraws:
    """Draws of wide states of a task."""

    def __init__(self, scene: Scene):
        self._scene = scene
        self._near = copy.copy(scene.model)
        # Contacts are found before anything touches.
        self._near.geom_margin[:] = CLEARANCE

    def draw_some(self, indices: np.ndarray) -> Float[np.ndarray, "S D"]:
        """Draws some wide states.

        Args:
          indices: of the training reset states that they are drawn from.

        Raises:
          UserError: no draw of a state was valid.
        """
        layout, environment = ObjectLayout(self._scene), Environment(self._scene, self._scene.model)
        return np.array([self.draw(layout, environment, int(index))[0] for index in indices])

    def draw(self, layout: ObjectLayout, environment: Environment, index: int) -> tuple[Float[np.ndarray, " D"], int]:
        """Draws one wide state; returns it, and the number of draws until it, itself included.

        Args:
          layout: of the scene.
          environment: of the scene, in exact physics.
          index: of the training reset state that it is drawn from.

        Raises:
          UserError: no draw was valid.
        """
        random, standard = np.random.default_rng((SEED, index)), self._scene.bundled_states[index]
        for tried in range(DRAWS):
            scale = float(np.interp(tried, (FULL, DRAWS - 1), (1.0, LEAST)))
            state = layout.draw(random, standard, scale)
            if state is None:
                continue
            state = self._with_robot(random, state, scale)
            if self.problem(environment, state, index) is None:
                return state, tried + 1
        raise UserError(
            f"{self._scene.task.id}: none of {DRAWS} wide draws from training reset state {index} is valid; "
            "use standard resets for this task"
        )

    def _with_robot(
        self, random: np.random.Generator, state: Float[np.ndarray, " D"], scale: float
    ) -> Float[np.ndarray, " D"]:
        """Returns a state with the arm's joints elsewhere: up to `JOINTS` away in a direction of any kind."""
        model, robot = self._scene.model, self._scene.robot
        direction = random.uniform(-1.0, 1.0, len(robot.arm_qpos))
        while (direction**2).sum() > 1.0:
            direction = random.uniform(-1.0, 1.0, len(robot.arm_qpos))
        moved = state.copy()
        distance = random.uniform(0.0, JOINTS) * scale
        joints = state[1 + robot.arm_qpos] + distance * direction / np.sqrt((direction**2).sum())
        moved[1 + robot.arm_qpos] = np.clip(joints, *model.jnt_range[robot.arm_joint].T)
        return moved

    def problem(self, environment: Environment, state: Float[np.ndarray, " D"], index: int) -> str | None:
        """Returns why a state is no wide state, None where it is one.

        Args:
          environment: of the scene, in exact physics.
          state: time, qpos, qvel, not settled.
          index: of the training reset state that it was drawn from.
        """
        scene, standard, moving = self._scene, self._scene.bundled_states[index], np.empty((len(REST), len(state)))
        touching = self._touching(state)
        if touching:
            return touching
        try:
            environment.reset(state)
            settled = environment.state.copy()
            _, reached = environment.step(REST, moving)
        except DivergedError:
            return "its physics becomes infinite"
        at_rest = environment.state.copy()
        if reached or self._is_reached(at_rest):
            return "the goal is reached at the start"
        unmet = unmet_reset_conditions(scene, state[None], at_rest[None])
        if unmet:
            return f"{'; '.join(unmet[0])} does not hold"
        if self._falls(environment, standard, state, at_rest):
            return "an object falls from its surface"
        before, after = (self._data_at(when).xpos[scene.object_bodies] for when in (moving[-1 - LAST], at_rest))
        if np.linalg.norm(after - before, axis=1).max() > STILL:
            return "an object is moving"
        return self._touching(settled) or self.blocked(at_rest)

    def _falls(
        self,
        environment: Environment,
        standard: Float[np.ndarray, " D"],
        state: Float[np.ndarray, " D"],
        at_rest: Float[np.ndarray, " D"],
    ) -> bool:
        """Returns whether an object falls further than it may, on its way from a state to where it is at rest."""
        falls = self._falls_between(state, at_rest)
        if falls.max() <= FALL:
            return False
        environment.reset(standard)
        environment.step(REST, np.empty((len(REST), len(standard))))
        allowed = np.maximum(FALL, self._falls_between(standard, environment.state) + LANDING)
        return bool((falls > allowed).any())

    def _falls_between(
        self, above: Float[np.ndarray, " D"], below: Float[np.ndarray, " D"]
    ) -> Float[np.ndarray, " objects"]:
        first, last = (self._data_at(state).xpos[self._scene.object_bodies, 2] for state in (above, below))
        return first - last

    def _is_reached(self, state: Float[np.ndarray, " D"]) -> bool:
        data = self._data_at(state)
        arrays = kernel_arrays.make_data_arrays(self._scene.model, data)
        goal = self._scene.goal
        return bool(kernel.goal_reached(arrays, kernel_arrays.goal_arrays(goal))) and contacts_hold(goal, data)

    def _touching(self, state: Float[np.ndarray, " D"]) -> str | None:
        """Returns two things that are nearer to each other than they may be.

        The robot keeps away from everything, and objects that stand on the table from all but what carries them. What
        no draw moves is as near to each other as the benchmark has it.
        """
        scene, model = self._scene, self._near
        data = mujoco.MjData(model)
        data.qpos[:] = state[1 : 1 + model.nq]
        robot = int(model.body_rootid[scene.robot.hand_body])
        objects, fixtures = set(scene.object_bodies.tolist()), set(scene.fixture_bodies.tolist())
        for pair in sorted(self._contacts(data) - self._carried):
            one, other = pair
            among_them = objects & {one, other} and {one, other} <= objects | fixtures
            if one != other and (robot in pair or (among_them and not {one, other} <= self._unmoved)):
                return f"{model.body(one).name} and {model.body(other).name} are too near each other"
        return None

    @cached_property
    def _unmoved(self) -> set[int]:
        """The bodies of fixtures, and of objects that stay where the standard state has them."""
        scene, layout = self._scene, ObjectLayout(self._scene)
        moved = {int(scene.object_bodies[index]) for index in layout.moved}
        return {*scene.object_bodies.tolist(), *scene.fixture_bodies.tolist()} - moved

    @cached_property
    def _carried(self) -> set[tuple[int, int]]:
        """The pairs of bodies of which the task file says that one stands on the other, or in it."""
        scene, conditions = self._scene, self._scene.reset_conditions
        pairs = set()
        for kind, upper, target in zip(conditions.kinds, conditions.bodies, conditions.targets, strict=True):
            if kind != JOINT:
                below = target if kind == STACKED else scene.model.site_bodyid[target]
                root = int(scene.model.body_rootid[below])
                pairs.add((min(int(upper), root), max(int(upper), root)))
        return pairs

    def blocked(self, state: Float[np.ndarray, " D"]) -> str | None:
        """Returns which object is in the way of the drawer, door or knob that the goal is about.

        Args:
          state: time, qpos, qvel at rest; the joints go from there to where the goal holds.
        """
        scene, model = self._scene, self._scene.model
        data, objects = mujoco.MjData(model), set(scene.object_bodies.tolist())
        goal = scene.goal
        for addresses, threshold in zip(goal.joints, goal.thresholds, strict=True):
            for address in addresses[addresses >= 0]:
                fixture = int(model.body_rootid[model.jnt_bodyid[np.flatnonzero(model.jnt_qposadr == address)[0]]])
                for position in np.linspace(state[1 + address], threshold, 5):
                    data.qpos[:] = state[1 : 1 + model.nq]
                    data.qpos[address] = position
                    for pair in self._contacts(data):
                        if fixture in pair and objects & set(pair) and pair not in self._carried:
                            name = model.body((objects & set(pair)).pop()).name
                            return f"{name} is in the way of {model.body(fixture).name}"
        return None

    def _contacts(self, data: mujoco.MjData) -> set[tuple[int, int]]:
        """Returns the pairs of root bodies, sorted, that touch each other or are within the model's margin."""
        mujoco.mj_fwdPosition(data.model, data)
        roots = data.model.body_rootid[data.model.geom_bodyid[np.reshape(data.contact.geom, (-1, 2))]]
        return {(int(min(pair)), int(max(pair))) for pair in roots}

    def _data_at(self, state: Float[np.ndarray, " D"]) -> mujoco.MjData:
        data = mujoco.MjData(self._scene.model)
        data.qpos[:] = state[1 : 1 + self._scene.model.nq]
        mujoco.mj_fwdPosition(self._scene.model, data)
        return data
