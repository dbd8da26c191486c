"""Habits: the grasps that a clean expert prefers, so that its demonstrations are alike and can be cloned.

Many grasps of a bowl's rim are as good as each other, and which of them is the best that the walls of a drawer leave
free changes with millimetres. A clone that has seen six kinds of grasps does something between two of them. So the
expert first asks how it would grasp in some states, and then grasps as it does most often wherever that is possible.
"""

import numpy as np
from jaxtyping import Float, Int

from rlgen.demos.scripted.joints import closed_joints
from rlgen.demos.scripted.motion import Style
from rlgen.demos.scripted.planners import Planners
from rlgen.demos.scripted.planning.plans import ALIKE, find_plans, grasp_signature, unlikeness
from rlgen.demos.scripted.skills import Habit, Habits
from rlgen.libero.envs.reset_check import at_rest
from rlgen.libero.scenes.goals import JOINT
from rlgen.libero.scenes.scene import Scene

# Training reset states whose plans tell what is usual.
STATES = 16


def find_habits(scene: Scene) -> Habits:
    """Returns the usual grasps of the goal's objects; none of objects whose place is closed at first.

    Args:
      scene: the task's scene; fixtures stand as they do in its training.
    """
    states = scene.training_states[:STATES]
    fixtures = [scene.draw_training_fixtures(seed) for seed in range(len(states))]
    settled = at_rest(scene, states, fixtures, physics="fast")
    found: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for state, poses in zip(settled, fixtures, strict=True):
        planners = Planners(scene.placed(poses))
        planners.state.update(state)
        context = planners.context(Style(), np.random.default_rng(0), {})
        for atom, body in enumerate(scene.goal.bodies.tolist()):
            if scene.goal.kinds[atom] == JOINT or closed_joints(context, atom):
                continue
            plan = next(find_plans(context, atom, []), None)
            if plan is not None:
                grasp = grasp_signature(context, body, plan.grasp), plan.grasp.hand.rotation[:, 0]
                found.setdefault(body, []).append(grasp)
    return {body: _habit(*map(np.stack, zip(*grasps, strict=True))) for body, grasps in found.items()}


def _habit(signatures: Float[np.ndarray, "n 6"], closings: Float[np.ndarray, "n 3"]) -> Habit:
    usual = usual_first(signatures)
    return Habit(signatures[usual], closings[usual[0]])


def usual_first(signatures: Float[np.ndarray, "n 6"]) -> Int[np.ndarray, " k"]:
    """Returns the index of one grasp of each kind, that of the kind with the most grasps first.

    Args:
      signatures: of grasps, from `planning.plans.grasp_signature`.
    """
    alike, kinds = unlikeness(signatures[:, None], signatures) < ALIKE, []
    left = np.ones(len(signatures), bool)
    while left.any():
        most = int(np.where(left, (alike & left).sum(axis=1), 0).argmax())
        kinds.append(most)
        left &= ~alike[most]
    return np.array(kinds)
