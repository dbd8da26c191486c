"""Whole episodes of the scripted expert: every kind of skill on real tasks, in the right order, from a seed."""

import numpy as np
import pytest

from rlgen.data.metrics.smoothness import noop_mask
from rlgen.demos.scripted import expert
from rlgen.demos.scripted.expert import ScriptedExpert, atom_order
from rlgen.demos.scripted.motion import draw_style
from rlgen.libero.envs.rollouts import make_trials, run_episodes
from rlgen.libero.envs.vector_env import VectorEnv

# Human-like episodes of a task: in a box, at the rim onto another object, a handle pulled, a knob turned, a handle
# hooked, a door pushed, a book into a slot.
EPISODES = {
    "libero_object/6": 4,
    "libero_spatial/0": 3,
    "libero_goal/0": 2,
    "libero_goal/7": 2,
    "libero_90/6": 2,
    "libero_90/33": 2,
    "libero_90/75": 2,
}


def episodes(scene, count, *, clean, seed=0, width=2, physics="fast"):
    actor, trials = ScriptedExpert(scene, clean=clean), make_trials(count, 50, seed=seed)
    options = {"split": "heldout", "source": "scripted", "width": min(width, count), "physics": physics}
    return [episode for wave in run_episodes(scene, actor, trials, **options) for episode in wave]


@pytest.fixture(scope="module")
def human_like(scene_of):
    """Returns the human-like episodes of a task, which several tests read."""
    kept = {}

    def record(task):
        if task not in kept:
            kept[task] = episodes(scene_of(task), EPISODES[task], clean=False, width=EPISODES[task])
        return kept[task]

    return record


@pytest.mark.parametrize("task", EPISODES)
def test_every_kind_of_task_is_solved(human_like, task):
    recorded = human_like(task)
    assert all(episode.success for episode in recorded)
    assert all(set(np.unique(episode.actions[:, 6])) <= {-1.0, 1.0} for episode in recorded)


def test_an_episode_comes_from_its_seed_and_state_alone(scene_of, human_like):
    scene, together = scene_of("libero_spatial/0"), human_like("libero_spatial/0")
    one_by_one = episodes(scene, len(together), clean=False, width=1)
    for first, second in zip(together, one_by_one, strict=True):
        np.testing.assert_array_equal(first.actions, second.actions)
    others = episodes(scene, 1, clean=False, seed=1)
    assert not np.array_equal(others[0].actions[:20], together[0].actions[:20])


def test_clean_is_steady_and_human_like_is_not(scene_of, human_like):
    human = human_like("libero_object/6")
    clean = episodes(scene_of("libero_object/6"), len(human), clean=True)
    assert np.mean([len(e) for e in clean]) < np.mean([len(e) for e in human])
    assert sum(noop_mask(e.actions).sum() for e in human) > sum(noop_mask(e.actions).sum() for e in clean)
    jerk = [np.mean([np.abs(np.diff(e.actions[:, :3], 2, axis=0)).mean() for e in kind]) for kind in (clean, human)]
    assert jerk[0] < jerk[1]


@pytest.mark.parametrize(("styles", "different"), [(None, 10), (1, 1), (4, 4)])
def test_episodes_share_as_many_styles_as_there_are_to_be(scene_of, monkeypatch, styles, different):
    drawn, scene = [], scene_of("libero_object/6")
    monkeypatch.setattr(expert, "draw_style", lambda random: drawn.append(draw_style(random)) or drawn[-1])
    trials = make_trials(10, 50, seed=0)
    options = {"split": "train", "source": "scripted", "width": 10, "physics": "fast", "horizon": 2}
    [*_] = run_episodes(scene, ScriptedExpert(scene, styles=styles), trials, **options)
    assert len(drawn) == 10 and len(set(drawn)) == different


def test_without_the_no_ops_the_actions_still_succeed(scene_of):
    scene = scene_of("libero_object/6")
    [episode, *_] = episodes(scene, 1, clean=False, physics="exact")
    kept = episode.actions[~noop_mask(episode.actions)]
    env = VectorEnv([scene], physics="exact", threads=1)
    env.reset(episode.initial_state[None])
    result = env.step(np.concatenate([kept, np.tile([0, 0, 0, 0, 0, 0, -1.0], (20, 1))])[None])
    env.close()
    assert result.terminated[0]


def ordered_atoms(scene):
    return [" ".join(scene.goal.atoms[atom]) for atom in atom_order(scene)]


def test_drawers_are_closed_after_something_was_put_in_and_before_another_opens(scene_of):
    assert ordered_atoms(scene_of("libero_10/3")) == [
        "in akita_black_bowl_1 white_cabinet_1_bottom_region",
        "close white_cabinet_1_bottom_region",
    ]
    first, last = ordered_atoms(scene_of("libero_90/23"))
    assert first.startswith("close") and last.startswith("open")


def test_a_carrier_is_put_before_what_it_carries(scene_of):
    first, last = ordered_atoms(scene_of("libero_90/63"))
    assert first == "in akita_black_bowl_2 wooden_tray_1_contain_region"
    assert last == "on akita_black_bowl_1 akita_black_bowl_2"


def test_a_stove_is_turned_on_before_something_stands_on_it(scene_of):
    assert ordered_atoms(scene_of("libero_10/8"))[0].startswith("turnon")
