import dataclasses
import json

import numpy as np
import pytest

from rlgen.core.errors import UserError
from rlgen.core.types import Observation, RobotState
from rlgen.data.images import rotate_180
from rlgen.evaluation.backends import BackendActor
from rlgen.evaluation.confusion import comparable, reached_instead
from rlgen.evaluation.evaluate import evaluate
from rlgen.evaluation.leaderboard import Circumstances
from rlgen.evaluation.protocol import Protocol
from rlgen.libero.envs.rollouts import make_trials
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.rendering.pool import RenderPool
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.tasks.suites import HORIZONS, find_task

SHORT = Protocol(trials=3, replan=8, image_size=32)


class Stub:
    """A backend whose actions follow from samples and seeds, so that a mistake in rows or seeds shows."""

    name = "stub"

    def __init__(self, horizon=8, stop_after=None):
        self.horizon, self.requests, self.stop_after = horizon, [], stop_after

    def __call__(self, samples, seeds):
        if self.stop_after is not None and len(self.requests) >= self.stop_after:
            raise KeyboardInterrupt
        self.requests.append((list(samples), list(seeds)))
        first = [sample["observation/state"][:1] for sample in samples]
        noise = [np.random.default_rng(seed).normal(0, 0.3, (self.horizon, 7)) for seed in seeds]
        return np.stack([n + f for n, f in zip(noise, first, strict=True)])


def make_observation(steps, states):
    count = len(states)
    robot = RobotState(states[:, :3], states[:, 3:6], states[:, 6:], np.zeros((count, 7)))
    return Observation(np.zeros((count, 1)), np.arange(count)[:, None] * 1.0, robot, np.array(steps))


def render(physics, fixtures):
    return np.stack([np.full((2, 4, 4, 3), int(row[0]), np.uint8) for row in physics])


def test_only_episodes_that_are_not_over_are_asked_for():
    stub = Stub()
    actor = BackendActor(stub, "open it", render, replan=5)
    actor.reset(np.array([7, 8, 9]))
    states = np.arange(24.0).reshape(3, 8) / 100
    assert actor(make_observation([0, 0, 0], states)).shape == (3, 5, 7)
    actions = actor(make_observation([5, 3, 5], states))
    assert len(stub.requests[1][0]) == 3
    # The second episode ended after three steps; it does not move any more.
    actions = actor(make_observation([10, 3, 10], states))
    samples, _ = stub.requests[2]
    assert [sample["observation/image"][0, 0, 0] for sample in samples] == [0, 2]
    assert [sample["prompt"] for sample in samples] == ["open it"] * 2
    assert not actions[1].any() and actions[0].any() and np.abs(actions).max() <= 1
    assert set(np.unique(actions[[0, 2], :, 6])) <= {-1.0, 1.0}
    # Noise follows from the episode's seed and the chunk, not from the other rows that are asked for.
    alone = BackendActor(Stub(), "open it", render, replan=5)
    alone.reset(np.array([9]))
    for step in (0, 5, 10):
        last = alone(make_observation([step], states[2:]))
    np.testing.assert_array_equal(last[0], actions[2])


def test_chunks_shorter_than_replan_are_refused():
    actor = BackendActor(Stub(horizon=4), "open it", render, replan=5)
    actor.reset(np.array([0]))
    with pytest.raises(UserError, match="answers 4 actions, --replan is 5"):
        actor(make_observation([0], np.zeros((1, 8))))


def test_actions_that_are_not_finite_are_refused():
    class Broken(Stub):
        def __call__(self, samples, seeds):
            return np.full((len(samples), self.horizon, 7), np.nan)

    actor = BackendActor(Broken(), "open it", render, replan=5)
    actor.reset(np.array([0]))
    with pytest.raises(UserError, match="stub answers actions that are not finite"):
        actor(make_observation([0], np.zeros((1, 8))))


def test_an_interrupted_evaluation_resumes_to_the_same_results(placeholder_scene, tmp_path, monkeypatch):
    monkeypatch.setitem(HORIZONS, placeholder_scene.task.suite, 24)
    tasks = [placeholder_scene.task]
    options = {"width": 2, "threads": 2, "videos": 1, "log": lambda line: None}

    def run(stub, folder):
        return evaluate(stub, tasks, lambda task: placeholder_scene, SHORT, folder, **options)

    whole = run(Stub(), tmp_path / "whole")
    # The first wave of two episodes takes three chunks.
    with pytest.raises(KeyboardInterrupt):
        run(Stub(stop_after=4), tmp_path / "broken")
    again = Stub()
    assert run(again, tmp_path / "broken") == whole
    assert {len(samples) for samples, _ in again.requests} == {1}
    assert (tmp_path / "broken/episodes.jsonl").read_text() == (tmp_path / "whole/episodes.jsonl").read_text()
    assert whole["all"]["trials"] == 3
    [video] = (tmp_path / "broken/videos").iterdir()
    assert video.name.count(".gif") == 1
    finished = Stub()
    options["leaderboard"] = Circumstances("plain geometry", False)
    assert run(finished, tmp_path / "broken") == whole and not finished.requests
    # A finished evaluation is written in the public harness's layouts as well, without a trial that is run again.
    [suite] = (tmp_path / "broken/leaderboard").glob("LIBEROBenchmark_*.json")
    [task] = json.loads(suite.read_text())["tasks"]
    steps = [json.loads(line)["steps"] for line in (tmp_path / "broken/episodes.jsonl").read_text().splitlines()]
    assert [episode["episode_id"] for episode in task["episodes"]] == [0, 1, 2] and task["avg_steps"] == np.mean(steps)


@pytest.mark.parametrize("fixtures", ["redraw", "fixed"])
def test_a_policy_sees_the_fixtures_where_the_trial_drew_them(
    placeholder_assets, cache, tmp_path, monkeypatch, fixtures
):
    scene = load_scene("libero_goal/0", placeholder_assets, cache)
    monkeypatch.setitem(HORIZONS, scene.task.suite, 8)
    stub, protocol = Stub(), dataclasses.replace(SHORT, trials=2, fixtures=fixtures)
    options = {"width": 2, "threads": 2, "videos": 1, "log": lambda line: None}
    evaluate(stub, [scene.task], lambda task: scene, protocol, tmp_path / "e", **options)
    lines = [json.loads(line) for line in (tmp_path / "e/episodes.jsonl").read_text().splitlines()]
    trials = make_trials(2, 50, seed=scene.task.index)
    drawn = [scene.draw_fixtures(fixtures, trial.seed) for trial in trials]
    assert [line.get("fixtures") for line in lines] == [None if one is None else one.tolist() for one in drawn]
    samples, _ = stub.requests[0]
    settled = VectorEnv([scene] * 2, physics="exact").reset(scene.stored_states[:2], drawn)
    with RenderPool(scene, image_size=SHORT.image_size) as pool:
        images = rotate_180(pool.render(settled.physics, fixtures=settled.fixtures))
    for sample, image in zip(samples, images, strict=True):
        np.testing.assert_array_equal(sample["observation/image"], image[0])


def test_a_failure_that_reached_another_goal_is_recorded(other_scene):
    """The goal of libero_goal/0 is an open drawer: another task of the same scene, by its goal."""
    other = dataclasses.replace(other_scene, task=find_task("libero_goal/1"))
    before = other_scene.stored_states[0]
    after, goal = before.copy(), other_scene.goal
    assert comparable(other_scene, other) and not comparable(other_scene, other_scene)
    for joint in goal.joints[0]:
        after[1 + joint] = goal.thresholds[0] + (0.05 if goal.above[0] else -0.05)
    assert reached_instead(other_scene, [other], before, after) == (other.task.id,)
    assert reached_instead(other_scene, [other], before, before) == ()
    assert reached_instead(other_scene, [other], after, after) == ()
