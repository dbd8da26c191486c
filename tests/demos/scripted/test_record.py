"""Recording over processes: finished trials are kept, and results do not depend on the number of processes."""

import json
from concurrent.futures import Future
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from rlgen.core.errors import UserError
from rlgen.core.process import worker_pool
from rlgen.data.formats.hdf5.reader import read_demos
from rlgen.demos.record import Recorder, demonstration_file
from rlgen.demos.trials import (
    Job,
    TrialResult,
    count_successes,
    run_trial,
    run_trials,
    write_recording,
)
from rlgen.libero.scenes.assets import find_assets

TASK = "libero_goal/7"


@pytest.fixture
def job(scene_of) -> Job:
    return Job(scene_of(TASK).folder, "train", 3, "fast", clean=True)


@pytest.fixture(scope="module")
def workers():
    with worker_pool(2) as pool:
        yield pool


def record_until_three(job: Job, folder: Path, pool, workers: int) -> list[TrialResult]:
    return list(
        run_trials(
            job, folder, enough=lambda results: count_successes(results) >= 3, limit=9, pool=pool, workers=workers
        )
    )


def test_a_recording_is_a_file_of_successes_with_a_summary(scene_of, cache, tmp_path):
    lines: list[str] = []
    scene = scene_of(TASK)
    recorder = Recorder(tmp_path, count=3, limit=9, workers=1, split="train", seed=3, physics="fast", clean=True)
    assets = find_assets(placeholders=True, cache=cache)
    assert recorder.record([scene.task], assets, cache, overwrite=False, log=lines.append) == []
    file = demonstration_file(tmp_path, scene.task)
    demos = read_demos(file)
    assert len(demos) == 3
    assert all(demo.success and demo.task == scene.task.id and demo.source == "scripted" for demo in demos)
    summary = json.loads(file.with_suffix(".json").read_text())
    assert summary["demonstrations"] == 3 and summary["style"] == "clean"
    assert summary["mean_length"] == np.mean([len(demo) for demo in demos])
    assert lines == [f"{scene.task.id}: 3 demonstrations of {summary['attempts']} trials, {file}"]
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name, file.with_suffix(".json").name]


def test_an_interrupted_recording_resumes_with_the_next_trial(job, scene_of, tmp_path, workers):
    whole = record_until_three(job, tmp_path / "whole", workers, workers=2)
    assert [result.index for result in whole] == list(range(len(whole)))
    trials = run_trials(job, tmp_path / "interrupted", enough=lambda results: False, limit=9, pool=workers, workers=1)
    first = next(trials)
    trials.close()
    again = record_until_three(job, tmp_path / "interrupted", workers, workers=2)
    # Its seconds would be others, had it been run again.
    assert again[0] == first
    assert [result.control_steps for result in again] == [result.control_steps for result in whole]
    for results, name in ((whole, "whole"), (again, "interrupted")):
        write_recording(tmp_path / f"{name}.hdf5", scene_of(TASK), tmp_path / name, results)
    one, other = (read_demos(tmp_path / f"{name}.hdf5") for name in ("whole", "interrupted"))
    good = [result for result in whole if result.success]
    assert [demo.initial_index for demo in one] == [result.index for result in good]
    assert [len(demo) for demo in one] == [result.control_steps for result in good]
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first.states, second.states)
        np.testing.assert_array_equal(first.actions, second.actions)


def test_a_recorded_trial_is_not_run_again(job, tmp_path):
    stored = {"number": 4, "success": False, "steps": 12, "seconds": 0.5}
    (tmp_path / "00004.json").write_text(json.dumps(stored))
    assert run_trial(job, tmp_path, 4) == TrialResult(4, False, 12, 0.5)


def test_a_successful_trial_whose_episode_is_gone_is_run_again(job, tmp_path):
    result = run_trial(job, tmp_path, 0)
    assert result.success
    (tmp_path / "00000.npz").unlink()
    assert run_trial(job, tmp_path, 0).control_steps == result.control_steps
    assert (tmp_path / "00000.npz").is_file()


def test_trials_with_other_settings_are_refused(job, tmp_path, workers):
    list(run_trials(job, tmp_path, enough=len, limit=1, pool=workers, workers=1))
    other = Job(job.bundle, job.split, job.seed + 1, job.physics, job.clean)
    with pytest.raises(UserError, match="with other settings"):
        next(run_trials(other, tmp_path, enough=len, limit=1, pool=workers, workers=1))


def test_the_limit_is_kept(job, tmp_path, workers):
    assert len(list(run_trials(job, tmp_path, enough=lambda results: False, limit=2, pool=workers, workers=2))) == 2


def test_results_that_are_no_longer_read_wait_for_no_trial(tmp_path, job):
    """As at an interruption where they are read: the pool is about to end its processes."""

    class Pool:
        def submit(self, function, job, folder, index):
            future = Future()
            if index == 0:
                future.set_result(TrialResult(0, True, 9, 0.1))
            else:
                future.set_running_or_notify_cancel()
            return future

    results = run_trials(job, tmp_path, enough=lambda results: False, limit=9, pool=Pool(), workers=2)
    assert next(results).success
    closing = Thread(target=results.close, daemon=True)
    closing.start()
    closing.join(timeout=5)
    assert not closing.is_alive()
