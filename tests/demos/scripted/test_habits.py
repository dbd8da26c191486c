"""A clean expert grasps alike wherever it can; what it does else, and a human-like one, stay as they are."""

from dataclasses import replace

import numpy as np
import pytest

from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.demos.scripted.habits import STATES, find_habits, usual_first
from rlgen.demos.scripted.motion import Style
from rlgen.demos.scripted.planners import Planners
from rlgen.demos.scripted.planning.plans import ALIKE, find_plans, grasp_signature


def test_the_kind_with_the_most_grasps_comes_first():
    rare, usual = np.zeros(6), np.full(6, 0.1)
    near = usual + 0.3 * ALIKE / np.sqrt(6)
    np.testing.assert_array_equal(usual_first(np.stack([rare, usual, near])), [usual, rare])
    assert usual_first(np.stack([rare, rare + 1.01 * ALIKE / np.sqrt(6)])).shape == (2, 6)


def test_a_bowl_on_a_cabinet_is_grasped_alike_with_habits_and_in_three_ways_without(scene_of):
    """The cabinet stands elsewhere in each episode, and the best grasps of the rim are as good as each other."""
    scene = replace(scene_of("libero_spatial/9"), training_fixtures="redraw")
    habits, body = find_habits(scene), int(scene.goal.bodies[0])
    assert len(habits[body]) > 1
    chosen = {}
    for name, kept in (("with", habits), ("without", {})):
        signatures = []
        for number in range(STATES, STATES + 12):
            planners = Planners(scene.placed(scene.draw_training_fixtures(number)))
            planners.state.update(scene.training_states[number])
            context = planners.context(Style(), np.random.default_rng(0), kept)
            signatures.append(grasp_signature(context, body, next(find_plans(context, 0, [])).grasp))
        apart = np.linalg.norm(np.stack(signatures) - habits[body][0], axis=1)
        chosen[name] = int((apart < ALIKE).sum())
    assert chosen["with"] >= 10 > chosen["without"]


def test_a_rejected_grasp_is_not_chosen_again_though_it_is_usual(scene_of):
    scene = scene_of("libero_spatial/9")
    body, planners = int(scene.goal.bodies[0]), Planners(scene)
    planners.state.update(scene.training_states[0])
    plain = planners.context(Style(), np.random.default_rng(0), {})
    usual = grasp_signature(plain, body, next(find_plans(plain, 0, [])).grasp)
    context = planners.context(Style(), np.random.default_rng(0), {body: usual[None]})
    other = grasp_signature(context, body, next(find_plans(context, 0, [usual])).grasp)
    assert np.linalg.norm(other - usual) > ALIKE


@pytest.mark.parametrize("task", ["libero_goal/3", "libero_goal/0"])
def test_objects_that_cannot_be_placed_at_first_and_joints_have_no_habits(scene_of, task):
    assert find_habits(scene_of(task)) == {}


def test_a_human_like_expert_has_no_habits(placeholder_scene, monkeypatch):
    monkeypatch.setattr("rlgen.demos.scripted.expert.find_habits", None)
    expert = ScriptedExpert(placeholder_scene)
    expert.reset(np.array([0]))
    assert expert._start_row(0, None).state is not None
