"""Wide draws of a task's layout: the objects of a training reset state, moved further than the benchmark's regions.

The benchmark draws an object from a square of two to five centimetres, so policies that were trained on such draws have
seen one layout. Here all objects that stand on the table or the floor are shifted together, and each of them on its
own. What makes a layout one of the task is kept: what stands on what, the distances that the benchmark's samplers keep,
and what tells objects of one kind apart, as prompts do ("the left plate", "the bowl next to the ramekin").

`rlgen.libero.envs.wide_resets` lets layouts settle, refuses those that do not stay as they were drawn, and keeps them.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import mujoco
import numpy as np
from jaxtyping import Bool, Float, Int

from rlgen.libero.scenes.goals import JOINT, STACKED
from rlgen.libero.scenes.scene import Scene

# How far a wide draw is from a standard one: the table of README.md, with its reasons. Metres; radians.
SHIFT = (0.10, 0.15)
SPREAD = 0.08
REACH = (0.35, 0.75)
JOINTS = 0.5
# Objects keep this distance from fixtures, from one another and from the robot; redrawn fixtures move by a centimetre.
CLEARANCE = 0.02
# Largest step in the surface below an object, and least height from which one falls: the benchmark puts bottles and
# cartons two or three centimetres into the table, which throws them up.
FLAT, LIFT = 0.005, 0.01
# The vertical gap from which one object counts as above another, and the draws of one object's place.
ABOVE, TRIES = 0.05, 50
# Who carries an object that stands on the table or the floor, and one that stands on a fixture or lies in it.
ARENA, FIXTURE = -1, -2
_DIRECTIONS = np.array([[np.cos(turn), np.sin(turn)] for turn in np.arange(8) * np.pi / 4])


@dataclass(frozen=True)
class ObjectExtent:
    """The size of an object, from its body's origin.

    Attributes:
      radius: horizontally, metres.
      low, high: vertically, metres; `low` is negative.
      rim: the outermost points in eight directions, seen from above, metres.
    """

    radius: float
    low: float
    high: float
    rim: Float[np.ndarray, "8 2"]


class ObjectLayout:
    """The objects of a scene, and the rules of its wide draws.

    Attributes:
      scene: the scene.
      addresses: of each object's position in qpos.
      carriers: the object that each object stands on or lies in, `ARENA` or `FIXTURE`.
      movers: objects that are moved, with what they carry.
    """

    def __init__(self, scene: Scene):
        model = scene.model
        self.scene = scene
        self.addresses = model.jnt_qposadr[model.body_jntadr[scene.object_bodies]]
        self.carriers = [self._carrier(int(body)) for body in scene.object_bodies]
        self.movers = [index for index, carrier in enumerate(self.carriers) if carrier == ARENA]
        named = self._table_goal_objects()
        if named:
            # The prompt says where on the table: beside objects that must not go away from there.
            self.movers = [index for index in self.movers if int(scene.object_bodies[index]) in named]
        self._model = _seen_model(model)
        self._data = mujoco.MjData(self._model)
        base = model.body_rootid[scene.robot.hand_body]
        self._base = model.body_pos[base][:2]

    @property
    def moved(self) -> list[int]:
        """The movers and what they carry."""
        return [index for index in range(len(self.carriers)) if self._root(index) in self.movers]

    def draw(
        self, random: np.random.Generator, state: Float[np.ndarray, " D"], scale: float
    ) -> Float[np.ndarray, " D"] | None:
        """Draws a layout: one shift of all movers, and for each of them one of its own.

        Args:
          random: generator.
          state: one of `Scene.bundled_states` (time, qpos, qvel), whose layout is moved.
          scale: of the ranges, in 0..1; at 0 nothing moves.

        Returns:
          The state with its objects elsewhere, not settled; None where no place was found.
        """
        standard, extents = self.places(state), self._extents(state)
        places, surface = standard, self._surface(state)
        heights = [surface.height(place, extent) for place, extent in zip(places, extents, strict=True)]
        shift = random.uniform(-1.0, 1.0, 2) * np.array(SHIFT) * scale
        placed = [index for index in range(len(places)) if index not in self.moved]
        for mover in self.movers:
            stack = [index for index in range(len(places)) if self._root(index) == mover]
            for _ in range(TRIES):
                moved = places.copy()
                moved[stack, :2] += shift + random.uniform(-SPREAD, SPREAD, 2) * scale
                if (
                    self._is_reachable(mover, moved[mover])
                    and _are_apart(moved, standard, extents, stack, placed)
                    and surface.is_flat(moved[mover], extents[mover], heights[mover])
                ):
                    break
            else:
                return None
            moved[stack, 2] += max(0.0, LIFT - heights[mover])
            places, placed = moved, placed + stack
        if not self.tells_apart(places):
            return None
        drawn = state.copy()
        for address, place in zip(self.addresses, places, strict=True):
            drawn[1 + address : 4 + address] = place
        return drawn

    def places(self, state: Float[np.ndarray, " D"]) -> Float[np.ndarray, "objects 3"]:
        """Returns the positions of the objects in a state."""
        return np.stack([state[1 + address : 4 + address] for address in self.addresses])

    def tells_apart(self, places: Float[np.ndarray, "objects 3"]) -> bool:
        """Returns whether objects of one kind differ as in all standard draws.

        That is: which of two is further to the left and to the front, and which is nearer to each other object, to
        each fixture and to the middle of the table; each where all standard draws agree.
        """
        agreed, values = self._agreed
        return bool(np.all(self._comparisons(places[None])[0][agreed] == values))

    def _carrier(self, body: int) -> int:
        """Returns what an object stands on by the task's reset conditions."""
        scene, conditions = self.scene, self.scene.reset_conditions
        bodies, fixtures = scene.object_bodies.tolist(), scene.fixture_bodies.tolist()
        for kind, upper, target in zip(conditions.kinds, conditions.bodies, conditions.targets, strict=True):
            if upper != body or kind == JOINT:
                continue
            root = int(scene.model.body_rootid[target if kind == STACKED else scene.model.site_bodyid[target]])
            return bodies.index(root) if root in bodies else FIXTURE if root in fixtures else ARENA
        return FIXTURE

    def _table_goal_objects(self) -> set[int]:
        """Returns the bodies that the goal wants in a region of the table or floor itself."""
        goal, model = self.scene.goal, self.scene.model
        owners = {*self.scene.object_bodies.tolist(), *self.scene.fixture_bodies.tolist()}
        found = set()
        for kind, body, target in zip(goal.kinds, goal.bodies, goal.targets, strict=True):
            if kind not in (JOINT, STACKED) and int(model.body_rootid[model.site_bodyid[target]]) not in owners:
                found.add(int(body))
        return found

    def _root(self, index: int) -> int:
        """Returns the lowest object of the stack that an object belongs to."""
        while self.carriers[index] >= 0:
            index = self.carriers[index]
        return index

    def _extents(self, state: Float[np.ndarray, " D"]) -> list[ObjectExtent]:
        model, data = self._model, self._data
        data.qpos[:] = state[1 : 1 + model.nq]
        mujoco.mj_kinematics(model, data)
        return [_extent(model, data, int(body)) for body in self.scene.object_bodies]

    def _is_reachable(self, mover: int, place: Float[np.ndarray, "3"]) -> bool:
        near, far = self._reach[mover]
        return bool(near <= np.hypot(*(place[:2] - self._base)) <= far)

    @cached_property
    def _reach(self) -> Float[np.ndarray, "objects 2"]:
        """The distances from the robot's base that each object may have: `REACH`, or those of its standard draws."""
        distances = np.linalg.norm(self._standard[:, :, :2] - self._base, axis=2)
        return np.stack(
            [np.minimum(REACH[0], distances.min(axis=0)), np.maximum(REACH[1], distances.max(axis=0))], axis=1
        )

    @cached_property
    def _standard(self) -> Float[np.ndarray, "R objects 3"]:
        """The objects' positions in all standard draws."""
        return np.stack([self.places(state) for state in self.scene.bundled_states])

    @cached_property
    def _agreed(self) -> tuple[Int[np.ndarray, " agreed"], Bool[np.ndarray, " agreed"]]:
        """The comparisons on which all standard draws agree, and how they come out."""
        compared = self._comparisons(self._standard)
        agreed = np.flatnonzero((compared == compared[:1]).all(axis=0))
        return agreed, compared[0, agreed]

    def _comparisons(self, places: Float[np.ndarray, "S objects 3"]) -> Bool[np.ndarray, "S C"]:
        fixed = [np.zeros(2), *self.scene.model.body_pos[self.scene.fixture_bodies, :2]]
        columns = [np.zeros((len(places), 0), bool)]
        for one, other in self._alike():
            pair = places[:, [one, other], :2]
            columns.append(pair[:, 0] > pair[:, 1])
            others = [places[:, index, :2] for index in range(places.shape[1]) if index not in (one, other)]
            for landmark in (*others, *(np.broadcast_to(place, pair[:, 0].shape) for place in fixed)):
                distances = np.linalg.norm(pair - landmark[:, None], axis=2)
                columns.append((distances[:, 0] > distances[:, 1])[:, None])
        return np.concatenate(columns, axis=1)

    def _alike(self) -> Iterator[tuple[int, int]]:
        """Yields pairs of objects of one kind; the benchmark numbers those."""
        kinds = [name.rsplit("_", 1)[0] for name in self.scene.object_names]
        return ((one, other) for one, other in combinations(range(len(kinds)), 2) if kinds[one] == kinds[other])

    def _surface(self, state: Float[np.ndarray, " D"]) -> "_Surface":
        """Returns the surface without the objects."""
        model, data = self._model, self._data
        data.qpos[:] = state[1 : 1 + model.nq]
        for address in self.addresses:
            data.qpos[address + 2] += 10.0
        mujoco.mj_kinematics(model, data)
        return _Surface(model, data)


@dataclass(frozen=True)
class _Surface:
    """The surface below the objects: table, floor, fixtures."""

    model: mujoco.MjModel
    data: mujoco.MjData

    def height(self, place: Float[np.ndarray, "3"], extent: ObjectExtent) -> float:
        """Returns how far an object hangs above the surface, metres; below zero where it is partly in it."""
        return self._below(np.array([*place[:2], place[2] + extent.high])) - (extent.high - extent.low)

    def is_flat(self, place: Float[np.ndarray, "3"], extent: ObjectExtent, height: float) -> bool:
        """Returns whether the surface is as far below a whole object as it was at its standard place."""
        points = place[:2] + np.concatenate([np.zeros((1, 2)), extent.rim])
        rim = np.c_[points, np.full(len(points), place[2] + extent.high)]
        expected = height + extent.high - extent.low
        return all(abs(self._below(start) - expected) < FLAT for start in rim)

    def _below(self, start: Float[np.ndarray, "3"]) -> float:
        """Returns how far the surface is below a point, metres; -1 where there is none."""
        return mujoco.mj_ray(self.model, self.data, start, np.array([0, 0, -1.0]), None, 1, -1, np.zeros(1, np.int32))


def _seen_model(model: mujoco.MjModel) -> mujoco.MjModel:
    """Returns a copy all of whose geoms are met by rays, which go through invisible ones."""
    seen = copy.copy(model)
    seen.geom_rgba[:, 3] = 1.0
    return seen


def _extent(model: mujoco.MjModel, data: mujoco.MjData, body: int) -> ObjectExtent:
    collides = (model.geom_contype | model.geom_conaffinity) != 0
    geoms = np.flatnonzero((model.body_rootid[model.geom_bodyid] == body) & collides)
    corners = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3), axis=-1).reshape(-1, 3)
    points = []
    for geom in geoms:
        center, half = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
        points.append(data.geom_xpos[geom] + (center + corners * half) @ data.geom_xmat[geom].reshape(3, 3).T)
    offsets = np.concatenate(points) - data.xpos[body]
    outermost = offsets[(offsets[:, :2] @ _DIRECTIONS.T).argmax(axis=0), :2]
    radius = float(np.linalg.norm(offsets[:, :2], axis=1).max())
    return ObjectExtent(radius, float(offsets[:, 2].min()), float(offsets[:, 2].max()), outermost)


def _are_apart(
    places: Float[np.ndarray, "objects 3"],
    standard: Float[np.ndarray, "objects 3"],
    extents: list[ObjectExtent],
    stack: list[int],
    placed: list[int],
) -> bool:
    """Returns whether the objects of a stack keep the distance of the benchmark's samplers from those placed before.

    Two objects are apart by more than the sum of their radii, seen from above, or as far as they are in the standard
    state, where something long has its end beside another; or one is above the other.
    """
    for one in stack:
        for other in placed:
            (low, high), (bottom, top) = (
                places[index, 2] + np.array([extents[index].low, extents[index].high]) for index in (one, other)
            )
            if low > top + ABOVE or bottom > high + ABOVE:
                continue
            distance, before = (np.hypot(*(at[one, :2] - at[other, :2])) for at in (places, standard))
            if distance <= min(extents[one].radius + extents[other].radius + CLEARANCE, before):
                return False
    return True
