"""The scripted expert takes over from another actor: it keeps what is in the fingers, and brings it to its end."""

from dataclasses import replace

import numpy as np
import pytest

from rlgen.demos.corrections import Takeover, corrections, takeover_horizon, takeover_step
from rlgen.demos.scripted import expert as expert_module
from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.demos.scripted.geometry import SceneState, between_fingers
from rlgen.libero.envs.rollouts import make_trials, run_episodes
from rlgen.libero.envs.vector_env import VectorEnv


class Replay:
    """An actor that plays stored actions, in chunks of 4."""

    def __init__(self, actions):
        self._actions, self._chunk = actions, 0

    def reset(self, seeds):
        self._chunk = 0

    def __call__(self, observation):
        rows = np.arange(4 * self._chunk, 4 * self._chunk + 4) % self._actions.shape[1]
        self._chunk += 1
        return self._actions[:, rows]


def one_episode(scene, actor, *, horizon=None):
    options = {"split": "heldout", "source": "scripted", "width": 1, "physics": "fast", "horizon": horizon}
    [[episode]] = run_episodes(scene, actor, make_trials(1, 50, seed=0), threads=1, **options)
    return episode


def first_step(actions, *, closed_for):
    """Returns the step at which the fingers have been asked to close for so many steps."""
    closing = actions[:, 6] > 0
    return next(step for step in range(closed_for, len(actions)) if closing[step - closed_for : step].all())


def taken_over(scene, whole, step, *, most):
    """Returns the expert's actions after the first steps of an episode, to its success within so many."""
    env, expert = VectorEnv([scene], physics="fast", threads=1), ScriptedExpert(scene, clean=True)
    env.reset(whole.initial_state[None])
    result, actions = env.step(whole.actions[None, :step]), []
    expert.reset(np.zeros(1, int))
    while not result.terminated[0]:
        assert len(actions) < most
        chunk = expert.act(result.observation, np.zeros(1, int), np.array([len(actions)]))
        actions.append(chunk[0, 0])
        result = env.step(chunk)
    env.close()
    return actions


# A bowl lifted by its rim, and a drawer pulled half open.
@pytest.mark.parametrize(("task", "closed_for"), [("libero_spatial/0", 40), ("libero_goal/0", 25)])
def test_what_is_in_the_fingers_is_not_let_go(scene_of, task, closed_for):
    scene = scene_of(task)
    whole = one_episode(scene, ScriptedExpert(scene, clean=True))
    step = first_step(whole.actions, closed_for=closed_for)
    actions = taken_over(scene, whole, step, most=len(whole) - step + 40)
    assert actions[0][6] > 0


@pytest.mark.parametrize("before_closing", [10, 2, -4])
def test_what_another_actor_has_begun_goes_on_from_where_the_hand_is(scene_of, before_closing):
    """A detour, such as up and down again, would contradict whole episodes, which pass such states on their way."""
    scene = scene_of("libero_spatial/0")
    whole = one_episode(scene, ScriptedExpert(scene, clean=True))
    step = first_step(whole.actions, closed_for=1) - before_closing
    taken_over(scene, whole, step, most=len(whole) - step + 5)


def test_an_open_hand_holds_nothing(scene_of):
    scene = scene_of("libero_spatial/0")
    state = SceneState(scene)
    state.update(scene.stored_states[0])
    assert not between_fingers(state, np.ones(scene.model.nbody, bool))


def test_the_expert_takes_over_at_the_step_of_the_seed_and_what_it_did_is_kept(scene_of):
    scene = scene_of("libero_spatial/0")
    still = np.tile(np.r_[np.zeros(6), -1.0].astype(np.float32), (1, 4, 1))
    horizon = scene.task.horizon
    episode = one_episode(scene, Takeover(Replay(still), ScriptedExpert(scene)), horizon=takeover_horizon(horizon))
    step = takeover_step(episode.seed, horizon)
    assert episode.success and 1 <= step <= 0.8 * horizon
    assert not episode.actions[:step, :6].any() and episode.actions[step:, :6].any()
    [kept] = corrections([episode, replace(episode, success=False)], horizon)
    np.testing.assert_array_equal(kept.actions, episode.actions[step:])
    np.testing.assert_array_equal(kept.states, episode.states[step:])
    np.testing.assert_array_equal(kept.initial_state, episode.states[step])
    # A clone that succeeds before that needs no correction.
    early = replace(episode, actions=episode.actions[:step], states=episode.states[: step + 1])
    assert corrections([early], horizon) == []


def test_a_row_that_has_ended_asks_nothing_of_the_expert():
    class Expert:
        scene = type("Scene", (), {"task": type("Task", (), {"horizon": 10})})

        def __init__(self):
            self.asked = []

        def reset(self, seeds):
            pass

        def act(self, observation, rows, steps):
            self.asked.append((rows.tolist(), steps.tolist()))
            return np.ones((len(rows), 1, 7))

    expert = Expert()
    actor = Takeover(Replay(np.zeros((2, 8, 7))), expert)
    actor.reset(np.array([0, 1]))
    first, second = (takeover_step(seed, 10) for seed in (0, 1))
    observation = type("Observation", (), {})()
    for step in range(12):
        # The second row ends when it is taken over.
        observation.step = np.array([step, min(step, second)])
        actions = actor(observation)
        assert actions[0].any() == (step >= first)
    assert [step for rows, steps in expert.asked for row, step in zip(rows, steps, strict=True) if row == 1] == [0]
    assert [step for rows, steps in expert.asked for row, step in zip(rows, steps, strict=True) if row == 0] == list(
        range(12 - first)
    )


@pytest.mark.parametrize(("tries", "expected"), [(2, 2), (None, 10)])
def test_after_so_many_failed_skills_the_hand_waits(scene_of, monkeypatch, tries, expected):
    scene, begun = scene_of("libero_spatial/0"), []

    def in_vain(context, atom, rejected):
        begun.append(atom)
        yield from expert_module.wait(22, expert_module.FULLY_OPEN)
        return False

    monkeypatch.setattr(expert_module, "_try_atom", in_vain)
    assert not one_episode(scene, ScriptedExpert(scene, tries=tries), horizon=220).success
    assert len(begun) == expected
