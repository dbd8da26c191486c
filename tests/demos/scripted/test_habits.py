"""A clean expert grasps alike wherever it can; what it does else, and a human-like one, stay as they are."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.demos.scripted.geometry import Pose, angle_between
from rlgen.demos.scripted.habits import STATES, find_habits, usual_first
from rlgen.demos.scripted.motion import Style
from rlgen.demos.scripted.planners import Planners
from rlgen.demos.scripted.planning.grasps import Grasp
from rlgen.demos.scripted.planning.plans import ALIKE, _both_orientations, find_plans, grasp_signature, unlikeness
from rlgen.demos.scripted.skills import Habit
from rlgen.demos.trials import _expert


def test_the_kind_with_the_most_grasps_comes_first():
    rare, usual = np.zeros(6), np.full(6, 0.1)
    near = usual + 0.3 * ALIKE / np.sqrt(6)
    assert usual_first(np.stack([rare, usual, near])).tolist() == [1, 0]
    assert usual_first(np.stack([rare, rare + 1.01 * ALIKE / np.sqrt(3)])).tolist() == [0, 1]


def test_grasps_are_alike_whichever_finger_is_where_and_mirrored_ones_are_not():
    grasp = np.array([0.1, 0.2, 0.3, 0.03 * np.cos(1.3), 0.03 * np.sin(1.3), 0.0])
    turned, mirrored, moved = grasp.copy(), grasp.copy(), grasp.copy()
    turned[3:] *= -1
    mirrored[3] *= -1
    moved[2] += 0.02
    assert unlikeness(grasp, turned) == 0 and unlikeness(grasp, mirrored) > ALIKE
    np.testing.assert_allclose(unlikeness(np.stack([grasp, turned]), moved), 0.02)
    assert unlikeness(grasp, np.full(6, np.inf)) == np.inf


def test_a_bowl_on_a_cabinet_is_grasped_alike_with_habits_and_in_three_ways_without(scene_of):
    """The cabinet stands elsewhere in each episode, and the best grasps of the rim are as good as each other."""
    scene = replace(scene_of("libero_spatial/9"), training_fixtures="redraw")
    habits, body = find_habits(scene), int(scene.goal.bodies[0])
    assert len(habits[body].kinds) > 1
    chosen = {}
    for name, kept in (("with", habits), ("without", {})):
        signatures = []
        for number in range(STATES, STATES + 12):
            planners = Planners(scene.placed(scene.draw_training_fixtures(number)))
            planners.state.update(scene.training_states[number])
            context = planners.context(Style(), np.random.default_rng(0), kept)
            signatures.append(grasp_signature(context, body, next(find_plans(context, 0, [])).grasp))
        apart = unlikeness(np.stack(signatures), habits[body].kinds[0])
        chosen[name] = int((apart < ALIKE).sum())
    assert chosen["with"] >= 10 > chosen["without"]


def test_a_rejected_grasp_is_not_chosen_again_though_it_is_usual(scene_of):
    scene = scene_of("libero_spatial/9")
    body, planners = int(scene.goal.bodies[0]), Planners(scene)
    planners.state.update(scene.training_states[0])
    plain = planners.context(Style(), np.random.default_rng(0), {})
    usual = grasp_signature(plain, body, next(find_plans(plain, 0, [])).grasp)
    context = planners.context(Style(), np.random.default_rng(0), {body: Habit(usual[None], np.array([1.0, 0.0, 0.0]))})
    other = grasp_signature(context, body, next(find_plans(context, 0, [usual])).grasp)
    assert unlikeness(other, usual) > ALIKE


def test_a_hand_is_turned_as_it_is_most_often_and_not_to_where_it_is_nearer(scene_of):
    """Lines at 75 and 105 degrees are nearly the same grasp, and would be reached with the hand turned around."""
    planners = Planners(scene_of("libero_spatial/9"))
    planners.state.update(planners.state.scene.training_states[0])
    hand, body = planners.state.hand, int(planners.state.scene.goal.bodies[0])

    def turned(degrees: float) -> Pose:
        return Pose(hand.position, Rotation.from_euler("z", degrees, degrees=True).as_matrix() @ hand.rotation)

    habit = Habit(np.zeros((1, 6)), turned(30).rotation[:, 0])
    for degrees in (75, 105):
        chosen = {}
        for name, habits in (("with", {body: habit}), ("without", {})):
            context = planners.context(Style(), np.random.default_rng(0), habits)
            first = next(iter(_both_orientations(context, body, [Grasp(turned(degrees), 0.0)])))
            chosen[name] = angle_between(first.hand.rotation, turned(degrees).rotation) < 0.01
        assert chosen == {"with": True, "without": degrees < 90}


@pytest.mark.parametrize("task", ["libero_goal/3", "libero_goal/0"])
def test_objects_that_cannot_be_placed_at_first_and_joints_have_no_habits(scene_of, task):
    assert find_habits(scene_of(task)) == {}


@pytest.mark.parametrize("options", [{}, {"clean": True, "habits": False}], ids=["human-like", "without"])
def test_a_human_like_expert_and_one_that_is_to_have_none_have_no_habits(placeholder_scene, monkeypatch, options):
    monkeypatch.setattr("rlgen.demos.scripted.expert.find_habits", None)
    expert = ScriptedExpert(placeholder_scene, **options)
    expert.reset(np.array([0]))
    assert expert._start_row(0, None).state is not None


def test_trials_and_corrections_have_the_same_habits(scene_of, monkeypatch):
    """Both ask with fixtures that are drawn anew: what is usual depends on it."""
    scene = replace(scene_of("libero_spatial/9"), training_fixtures="redraw")
    asked = []
    monkeypatch.setattr("rlgen.demos.scripted.expert.find_habits", lambda scene: asked.append(scene) or {})
    for expert in (
        ScriptedExpert(scene, clean=True),
        _expert(scene.folder, "train", "redraw", clean=True, styles=None, habits=True),
    ):
        expert.reset(np.array([0]))
        expert._start_row(0, None)
    assert [one.training_fixtures for one in asked] == ["redraw"] * 2
