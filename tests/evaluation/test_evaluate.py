import dataclasses
import json
import threading

import numpy as np
import pytest

from rlgen.core.errors import UserError
from rlgen.core.types import Observation, RobotState
from rlgen.data.images import rotate_180
from rlgen.evaluation.backends import BackendActor
from rlgen.evaluation.confusion import comparable, reached_instead
from rlgen.evaluation.evaluate import Parallelism, evaluate
from rlgen.evaluation.leaderboard import Circumstances
from rlgen.evaluation.protocol import Protocol
from rlgen.libero.envs.rollouts import make_trials, stream_episodes
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

    def close(self):
        pass

    def abort(self):
        pass


def make_observation(steps, states):
    count = len(states)
    robot = RobotState(states[:, :3], states[:, 3:6], states[:, 6:], np.zeros((count, 7)))
    return Observation(np.zeros((count, 1)), np.arange(count)[:, None] * 1.0, robot, np.array(steps))


def render(physics, fixtures):
    return np.stack([np.full((2, 4, 4, 3), int(row[0]), np.uint8) for row in physics])


def test_only_rows_that_go_on_are_asked_for():
    stub, rows = Stub(), np.array([0, 2])
    actor = BackendActor(stub, "open it", render, replan=5)
    states = np.arange(24.0).reshape(3, 8) / 100
    actions = actor(make_observation([10, 3, 10], states), rows, [7, 9], [2, 2])
    [(samples, _)] = stub.requests
    assert [sample["observation/image"][0, 0, 0] for sample in samples] == [0, 2]
    assert [sample["prompt"] for sample in samples] == ["open it"] * 2
    assert actions.shape == (2, 5, 7) and actions.any() and np.abs(actions).max() <= 1
    assert set(np.unique(actions[..., 6])) <= {-1.0, 1.0}
    # Noise follows from the episode's seed and the chunk, not from the other rows that are asked for.
    alone = BackendActor(Stub(), "open it", render, replan=5)
    first, third = (alone(make_observation([10], states[2:]), np.array([0]), [9], [chunk]) for chunk in (0, 2))
    np.testing.assert_array_equal(third[0], actions[1])
    assert (first != third).any()


def test_chunks_shorter_than_replan_are_refused():
    actor = BackendActor(Stub(horizon=4), "open it", render, replan=5)
    with pytest.raises(UserError, match="answers 4 actions, --replan is 5"):
        actor(make_observation([0], np.zeros((1, 8))), np.array([0]), [0], [0])


def test_actions_that_are_not_finite_are_refused():
    class Broken(Stub):
        def __call__(self, samples, seeds):
            return np.full((len(samples), self.horizon, 7), np.nan)

    actor = BackendActor(Broken(), "open it", render, replan=5)
    with pytest.raises(UserError, match="stub answers actions that are not finite"):
        actor(make_observation([0], np.zeros((1, 8))), np.array([0]), [0], [0])


def test_episodes_depend_on_their_trials_alone(placeholder_scene, tmp_path, monkeypatch):
    """Whatever the number of environments, groups and threads, and whichever episodes share a request."""
    monkeypatch.setitem(HORIZONS, placeholder_scene.task.suite, 12)
    protocol = dataclasses.replace(SHORT, trials=5)
    found = []
    for width, groups, threads in ((2, 1, 2), (1, 1, 1), (4, 2, 3)):
        [task], stub, folder = [placeholder_scene.task], Stub(), tmp_path / f"{width} {groups}"
        options = {"parallelism": Parallelism(width, groups, threads), "videos": 0, "log": lambda line: None}
        evaluate(stub, [task], lambda _: placeholder_scene, protocol, folder, **options)
        # By the seed of the noise: what the policy has seen in each chunk of each episode.
        seen = {seed: sample for samples, seeds in stub.requests for sample, seed in zip(samples, seeds, strict=True)}
        assert len(seen) == 10 and max(len(seeds) for _, seeds in stub.requests) == width // groups
        found.append((seen, (folder / "episodes.jsonl").read_text()))
    (first, lines), *others = found
    for seen, other_lines in others:
        assert lines == other_lines and first.keys() == seen.keys()
        for seed, sample in first.items():
            for key in ("observation/image", "observation/wrist_image", "observation/state"):
                np.testing.assert_array_equal(sample[key], seen[seed][key])


def test_a_failure_ends_calls_that_wait(placeholder_scene):
    class Fails(Stub):
        """A server of which one connection fails while another one waits for its answer."""

        def __init__(self):
            super().__init__()
            self.aborted = threading.Event()

        def __call__(self, samples, seeds):
            super().__call__(samples, seeds)
            if len(self.requests) > 1:
                assert self.aborted.wait(60)
            raise UserError("the server is gone")

        def abort(self):
            self.aborted.set()

    stub, trials = Fails(), make_trials(4, 50, seed=0)
    with RenderPool(placeholder_scene, image_size=16) as pool:
        actor = BackendActor(stub, "open it", pool.render, 8)
        options = {"split": "heldout", "source": "policy", "groups": 2, "abort": stub.abort}
        with pytest.raises(UserError, match="the server is gone"):
            next(stream_episodes(placeholder_scene, actor, trials, **options))
    assert stub.aborted.is_set()


def test_an_interrupted_evaluation_resumes_to_the_same_results(placeholder_scene, tmp_path, monkeypatch):
    monkeypatch.setitem(HORIZONS, placeholder_scene.task.suite, 24)
    tasks = [placeholder_scene.task]
    options = {"parallelism": Parallelism(2, 1, 2), "videos": 1, "log": lambda line: None}

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
    options = {"parallelism": Parallelism(2, 1, 2), "videos": 1, "log": lambda line: None}
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
