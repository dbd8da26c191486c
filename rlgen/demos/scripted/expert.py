"""From a task's goal to skills: what to do, in which order, until everything holds."""

from collections.abc import Generator

import mujoco
import numpy as np
from jaxtyping import Float, Int

from rlgen.core.types import Observation
from rlgen.demos.scripted.geometry import Sight, joint_at, parts
from rlgen.demos.scripted.height_maps import Terrain
from rlgen.demos.scripted.joints import operate, position
from rlgen.demos.scripted.motion import OPEN, Motor, Move, Style, draw_style
from rlgen.demos.scripted.pick_place import pick_and_place
from rlgen.demos.scripted.places import Places
from rlgen.demos.scripted.plans import plans
from rlgen.demos.scripted.reach import Reach
from rlgen.demos.scripted.skills import Skill, Workplace, wait
from rlgen.libero.scenes.goals import CONTAIN, JOINT, STACKED
from rlgen.libero.scenes.scene import Scene

# Control steps to wait where nothing can be done, and after how many times that is how it stays.
WAIT, HOPELESS = 20, 2
# From which share of its range a drawer or door cannot be opened any further.
WIDE = 0.9
# Control steps a skill takes somebody who hesitates and takes bends.
LEISURE = 200
# What moves less than this in a control step is at rest, metres; and how many control steps things may fall.
STILL, LONGEST_FALL = 5e-4, 40


def perform(work: Workplace) -> Generator[Move, None, None]:
    """An episode without end: the next unmet atom, tried until it holds; then the hand waits."""
    refused: dict[tuple[str, int], list[np.ndarray]] = {}
    order, stuck = _order(work.sight.scene), 0
    while True:
        missing = [atom for atom in order if not work.sight.holds(atom)]
        work.hurried = work.sight.left < LEISURE * len(missing)
        if not missing:
            yield from wait(work, 1, OPEN)
            continue
        before = work.sight.left
        done = yield from _meet(work, missing[0], refused)
        stuck = stuck + 1 if not done and before - work.sight.left < WAIT else 0
        if stuck:
            # What cannot be planned now will not be a step later, and planning takes time.
            yield from wait(work, WAIT if stuck < HOPELESS else work.sight.left, OPEN)


def _meet(work: Workplace, atom: int, refused: dict[tuple[str, int], list[np.ndarray]]) -> Skill:
    """One attempt at an atom."""
    goal = work.sight.scene.goal
    yield from _come_to_rest(work, int(goal.bodies[atom]))
    if goal.kinds[atom] == JOINT:
        joint = joint_at(work.sight.model, goal.joints[atom][0])
        target = _target(work, atom, joint)
        tried = refused.setdefault(("joint", joint), [])
        return (yield from operate(work, joint, target, lambda: work.sight.holds(atom), tried))
    tried = refused.setdefault(("atom", atom), [])
    plan = next(plans(work, atom, tried), None)
    if plan is not None:
        return (yield from pick_and_place(work, atom, plan, tried))
    shut = _shut(work, atom)
    work.hurried |= work.sight.left < LEISURE * (1 + len(shut))
    for joint in shut:
        target = _opened(work.sight.model, joint)
        tried = refused.setdefault(("joint", joint), [])
        start = position(work, joint)
        wide = start + 0.97 * (target - start)

        def is_open(joint: int = joint, wide: float = wide, sign: float = np.sign(target - start)) -> bool:
            return bool(sign * (position(work, joint) - wide) > 0)

        if (yield from operate(work, joint, target, is_open, tried)):
            return True
    return False


def _come_to_rest(work: Workplace, body: int) -> Skill:
    """Waits for what still falls: some initial states overlap, and things are let go above their place."""
    before = work.sight.body(body).position
    for _ in range(LONGEST_FALL):
        yield from wait(work, 1, OPEN)
        now = work.sight.body(body).position
        if np.linalg.norm(now - before) < STILL:
            break
        before = now
    return True


def _target(work: Workplace, atom: int, joint: int) -> float:
    """Where to bring a joint so that an atom holds: a seventh of its range beyond the threshold."""
    goal = work.sight.scene.goal
    low, high = work.sight.model.jnt_range[joint]
    side = 1.0 if goal.above[atom] else -1.0
    return float(np.clip(goal.thresholds[atom] + side * 0.15 * (high - low), low, high))


def _shut(work: Workplace, atom: int) -> list[int]:
    """Joints of what an object is to be put into that are not wide open: its own drawer, or else all of its doors."""
    model, goal = work.sight.model, work.sight.scene.goal
    if goal.kinds[atom] != CONTAIN:
        return []
    body = int(model.site_bodyid[goal.targets[atom]])
    own = _joints_above(model, body)
    root = parts(model, int(model.body_rootid[body]))
    joints = own or [joint for joint in range(model.njnt) if root[model.jnt_bodyid[joint]]]
    return [
        joint
        for joint in joints
        if model.jnt_type[joint] in (mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE)
        and abs(position(work, joint)) < WIDE * abs(_opened(model, joint))
    ]


def _joints_above(model: mujoco.MjModel, body: int) -> list[int]:
    """Joints between a body and the world, without free ones."""
    found = []
    while body:
        first = int(model.body_jntadr[body])
        found += list(range(first, first + int(model.body_jntnum[body]))) if first >= 0 else []
        body = int(model.body_parentid[body])
    return found


def _opened(model: mujoco.MjModel, joint: int) -> float:
    """The end of a joint's range that is further from where it is closed, zero."""
    low, high = model.jnt_range[joint]
    return float(low if abs(low) > abs(high) else high)


def _order(scene: Scene) -> list[int]:
    """Atoms of the goal in the order in which they must be met.

    What is in the way is moved first, what carries something is put before what it carries, and what something is
    put into is closed last.
    """
    goal, model = scene.goal, scene.model
    placed = [atom for atom in range(len(goal.kinds)) if goal.kinds[atom] != JOINT]
    carriers = {int(goal.bodies[atom]): atom for atom in placed}

    def depth(atom: int) -> int:
        below = carriers.get(int(goal.targets[atom])) if goal.kinds[atom] == STACKED else None
        return 0 if below is None else 1 + depth(below)

    filled = {
        int(model.body_rootid[model.site_bodyid[goal.targets[atom]]]) for atom in placed if goal.kinds[atom] != STACKED
    }

    def rank(atom: int) -> tuple[int, int]:
        if goal.kinds[atom] != JOINT:
            return 2, depth(atom)
        joint = joint_at(model, goal.joints[atom][0])
        closes = abs(goal.thresholds[atom]) < 0.5 * abs(_opened(model, joint)) and goal.every[atom]
        last = closes and int(model.body_rootid[goal.bodies[atom]]) in filled
        return (3 if last else 0 if closes else 1), 0

    return sorted(range(len(goal.kinds)), key=rank)


class ScriptedExpert:
    """An actor that performs a task by scripted skills; chunk of one step.

    Everything an episode does depends on its seed and its physics states alone.

    Attributes:
      scene: the task.

    Args:
      scene: the task.
      clean: straight and steady instead of human-like.
    """

    def __init__(self, scene: Scene, *, clean: bool = False):
        self.scene = scene
        self._clean = clean
        self._sight = Sight(scene)
        self._reach, self._terrain = Reach(self._sight), Terrain(self._sight)
        self._places = Places(self._sight, self._terrain)
        self._rows: list[tuple[Motor, Generator[Move, None, None]]] = []

    def reset(self, seeds: Int[np.ndarray, " N"]) -> None:
        """Draws a style for every row from its seed."""
        self._rows = [self._performer(np.random.default_rng(int(seed))) for seed in seeds]

    def __call__(self, observation: Observation) -> Float[np.ndarray, "N 1 7"]:
        """One action a row."""
        actions = []
        rows = zip(self._rows, observation.physics, observation.step, strict=True)
        for (motor, moves), physics, step in rows:
            self._sight.update(physics, int(step))
            actions.append(motor.action(next(moves), self._sight.hand))
        return np.stack(actions)[:, None]

    def _performer(self, random: np.random.Generator) -> tuple[Motor, Generator[Move, None, None]]:
        style = Style() if self._clean else draw_style(random)
        work = Workplace(self._sight, self._reach, self._terrain, self._places, style, random)
        return Motor(style, random), perform(work)
