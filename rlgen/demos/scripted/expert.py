"""The scripted expert: an actor that solves the benchmark's tasks by skills, planned from the physics state.

An episode repeats: take the first atom of the goal that does not hold, plan a skill for it and perform it. Skills are
generators that yield a target of the hand per control step (`skills`); a controller turns the targets into actions
(`motion`). To read on: `pick_place` and `joints` are the skills; `planning.plans` chooses a grasp and a place for an
object, with a way to it, and `planning.contacts` how a drawer, door or knob is held or pushed, on height maps of the
scene; `kinematics` says what the arm can reach, and `geometry` where everything is, and what must close in the end.
"""

from collections.abc import Generator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from rlgen.core.types import FixturePoses, Observation
from rlgen.demos.scripted.geometry import SceneState, closes, fixture_of, joint_at, joint_position, open_end
from rlgen.demos.scripted.habits import Habits, find_habits
from rlgen.demos.scripted.joints import closed_joints, finish_with_joint, move_joint
from rlgen.demos.scripted.motion import FULLY_OPEN, Controller, Move, Style, draw_style
from rlgen.demos.scripted.pick_place import finish_with_object, pick_and_place
from rlgen.demos.scripted.planners import Planners
from rlgen.demos.scripted.planning.entries import RUB, fits_closed
from rlgen.demos.scripted.planning.plans import find_plans
from rlgen.demos.scripted.skills import Skill, SkillContext, wait
from rlgen.libero.scenes.goals import CONTAIN, JOINT, STACKED
from rlgen.libero.scenes.scene import Scene

# Control steps to wait where nothing can be planned, and how often that happens before the episode is given up.
RETRY_STEPS, MAX_FAILURES = 20, 2
# Fraction of the way to wide open that is enough.
OPEN_ENOUGH = 0.97
# Control steps that a skill takes with pauses and bends.
UNHURRIED_STEPS = 200
# Change of position per control step below which an object is at rest, metres, and most control steps to wait for it.
REST_CHANGE, MAX_FALL_STEPS = 5e-4, 40
# Fraction of a joint's range by which it is moved beyond the threshold of an atom.
BEYOND_THRESHOLD = 0.15

# What failed before, by joint or by atom: skills do not try it again.
Rejected = dict[tuple[str, int], list[np.ndarray]]


class ScriptedExpert:
    """An actor that solves a task by scripted skills, one control step at a time.

    An episode depends on its seed and its physics states alone.

    Attributes:
      scene: the task's scene.
    """

    def __init__(
        self,
        scene: Scene,
        *,
        clean: bool = False,
        styles: int | None = None,
        tries: int | None = None,
        habits: bool = True,
    ):
        """Prepares the planners.

        Args:
          scene: the task's scene.
          clean: straight and steady instead of human-like, with habits (see `habits.py`).
          styles: number of human-like styles that episodes share, each by its seed; None draws one for each.
          tries: failed skills after which the hand waits for the end of the episode; None for any number.
          habits: whether a clean one has them.
        """
        self.scene = scene
        self._clean, self._styles, self._tries = clean, styles, tries
        # Rows share the state and its planners, and take turns; rows with a draw of the fixtures have their own.
        self._shared = Planners(scene)
        self._habits: Habits | None = None if clean and habits else {}
        self._seeds: list[int] = []
        self._rows: list[_Row] = []

    def reset(self, seeds: Int[np.ndarray, " N"]) -> None:
        """Starts new episodes; each row's style will be drawn from its seed."""
        self._seeds, self._rows = [int(seed) for seed in seeds], []

    def __call__(self, observation: Observation) -> Float[np.ndarray, "N 1 7"]:
        """Returns an action for every row."""
        return self.act(observation, np.arange(len(self._seeds)), observation.step)

    def act(
        self, observation: Observation, rows: Int[np.ndarray, " n"], steps: Int[np.ndarray, " n"]
    ) -> Float[np.ndarray, "n 1 7"]:
        """Returns an action for some of the rows; the others stay where they are.

        Args:
          observation: of all rows.
          rows: indices of those that act; a row that has not acted before takes over from somebody else.
          steps: control steps since each of them began, which count towards the task's horizon.
        """
        if not self._rows:
            fixtures = observation.fixtures or [None] * len(self._seeds)
            self._rows = [self._start_row(*pair) for pair in zip(self._seeds, fixtures, strict=True)]
        actions = []
        for index, step in zip(rows, steps, strict=True):
            row = self._rows[index]
            row.state.update(observation.physics[index], int(step))
            actions.append(row.controller.action(next(row.moves), row.state.hand))
        return np.stack(actions)[:, None]

    def _start_row(self, seed: int, fixtures: FixturePoses | None) -> "_Row":
        random = np.random.default_rng(seed)
        style = Style() if self._clean else draw_style(self._style_source(seed, random))
        planners = self._shared if fixtures is None else Planners(self.scene.placed(fixtures))
        if self._habits is None:
            self._habits = find_habits(self.scene)
        context = planners.context(style, random, self._habits)
        return _Row(planners.state, Controller(style, random), solve_task(context, self._tries))

    def _style_source(self, seed: int, random: np.random.Generator) -> np.random.Generator:
        """Returns what the style of an episode is drawn from: its own randomness, or that of a style that is shared."""
        return random if self._styles is None else np.random.default_rng(seed % self._styles)


class _Row(NamedTuple):
    """An episode of one environment."""

    state: SceneState
    controller: Controller
    moves: Generator[Move, None, None]


def solve_task(context: SkillContext, tries: int | None = None) -> Generator[Move, None, None]:
    """Yields moves without end: skills for the atoms of the goal in their order, then the hand waits.

    Args:
      context: of the episode.
      tries: failed skills after which it waits in any case; None for any number.
    """
    rejected: Rejected = {}
    order, failures, failed = atom_order(context.state.scene), 0, 0
    yield from _take_over(context, order)
    while True:
        missing = [atom for atom in order if not context.state.atom_holds(atom)]
        context.hurried = context.state.steps_left < UNHURRIED_STEPS * len(missing)
        if not missing or failed == tries:
            yield from wait(1, FULLY_OPEN)
            continue
        before = context.state.steps_left
        success = yield from _try_atom(context, missing[0], rejected)
        failed += not success
        failures = failures + 1 if not success and before - context.state.steps_left < RETRY_STEPS else 0
        if failures:
            # What cannot be planned now cannot be planned a step later, and planning takes time.
            yield from wait(RETRY_STEPS if failures < MAX_FAILURES else context.state.steps_left, FULLY_OPEN)


def _take_over(context: SkillContext, order: list[int]) -> Skill:
    """Goes on with the object or the handle that another actor has grasped, if the goal asks for it.

    To let go, as a skill does that begins with an open hand, would contradict whole episodes, which pass such states
    with closed fingers.
    """
    for atom in order:
        if context.state.atom_holds(atom):
            continue
        if (yield from finish_with_object(context, atom)):
            return True
        goal, model = context.state.scene.goal, context.state.model
        if goal.kinds[atom] == JOINT:
            joint = joint_at(model, goal.joints[atom][0])
            targets = {joint: _joint_target(context, atom, joint)}
        else:
            targets = {joint: open_end(model, joint) for joint in closed_joints(context, atom)}
        for joint, target in targets.items():
            if (yield from finish_with_joint(context, joint, target)):
                return True
    return False


def atom_order(scene: Scene) -> list[int]:
    """Returns the indices of the goal's atoms in the order in which they must be met.

    Drawers and doors that are in the way are closed first. A carrier is put before what it carries, and a container is
    closed after it was filled.
    """
    goal = scene.goal
    placed = [atom for atom in range(len(goal.kinds)) if goal.kinds[atom] != JOINT]
    carriers = {int(goal.bodies[atom]): atom for atom in placed}

    def depth(atom: int) -> int:
        below = carriers.get(int(goal.targets[atom])) if goal.kinds[atom] == STACKED else None
        return 0 if below is None else 1 + depth(below)

    filled = {fixture_of(scene, atom) for atom in placed if goal.kinds[atom] != STACKED}

    def rank(atom: int) -> tuple[int, int]:
        if goal.kinds[atom] != JOINT:
            return 2, depth(atom)
        if not closes(scene, atom):
            return 1, 0
        return (3 if fixture_of(scene, atom) in filled else 0), 0

    return sorted(range(len(goal.kinds)), key=rank)


def _try_atom(context: SkillContext, atom: int, rejected: Rejected) -> Skill:
    """Performs one skill towards an atom: its joint, its object, or else a closed container that it needs open."""
    goal = context.state.scene.goal
    yield from _wait_for_rest(context, int(goal.bodies[atom]))
    if goal.kinds[atom] == JOINT:
        joint = joint_at(context.state.model, goal.joints[atom][0])
        if (yield from _clear_way(context, atom, joint, rejected)):
            return True
        target = _joint_target(context, atom, joint)
        tried = rejected.setdefault(("joint", joint), [])
        return (yield from move_joint(context, joint, target, lambda: context.state.atom_holds(atom), tried))
    tried = rejected.setdefault(("atom", atom), [])
    plan = next(find_plans(context, atom, tried), None)
    if plan is not None:
        return (yield from pick_and_place(context, atom, plan, tried))
    closed = closed_joints(context, atom)
    context.hurried |= context.state.steps_left < UNHURRIED_STEPS * (1 + len(closed))
    for joint in closed:
        if (yield from _open_joint(context, joint, rejected.setdefault(("joint", joint), []))):
            return True
    return False


def _clear_way(context: SkillContext, atom: int, joint: int, rejected: Rejected) -> Skill:
    """Picks up, once, what keeps a drawer from being closed that was pushed in vain, and puts it in again."""
    scene = context.state.scene
    if not closes(scene, atom) or not rejected.get(("joint", joint)):
        return False
    for other in np.flatnonzero(scene.goal.kinds == CONTAIN):
        body, tried = int(scene.goal.bodies[other]), rejected.setdefault(("again", int(other)), [])
        if tried or fixture_of(scene, other) != fixture_of(scene, atom) or not context.state.atom_holds(other):
            continue
        yield from _wait_for_rest(context, body)
        if fits_closed(context, int(other), joint, context.state.body_pose(body), touch=RUB):
            continue
        plan = next(find_plans(context, int(other), tried), None)
        tried.append(np.full(6, np.inf))
        if plan is not None:
            return (yield from pick_and_place(context, int(other), plan, tried))
    return False


def _open_joint(context: SkillContext, joint: int, tried: list[np.ndarray]) -> Skill:
    """Opens a drawer or door as wide as it goes."""
    start, target = joint_position(context.state, joint), open_end(context.state.model, joint)
    wide, sign = start + OPEN_ENOUGH * (target - start), np.sign(target - start)

    def is_open() -> bool:
        return bool(sign * (joint_position(context.state, joint) - wide) > 0)

    return (yield from move_joint(context, joint, target, is_open, tried))


def _wait_for_rest(context: SkillContext, body: int) -> Skill:
    """Waits for a falling object: some initial states overlap, and objects are released above their place."""
    before = context.state.body_pose(body).position
    for _ in range(MAX_FALL_STEPS):
        yield from wait(1, FULLY_OPEN)
        now = context.state.body_pose(body).position
        if np.linalg.norm(now - before) < REST_CHANGE:
            break
        before = now
    return True


def _joint_target(context: SkillContext, atom: int, joint: int) -> float:
    """Returns a joint's position beyond the threshold of an atom, at which the atom holds."""
    goal = context.state.scene.goal
    low, high = context.state.model.jnt_range[joint]
    side = 1.0 if goal.above[atom] else -1.0
    return float(np.clip(goal.thresholds[atom] + side * BEYOND_THRESHOLD * (high - low), low, high))
