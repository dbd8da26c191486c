"""Recording over processes: what was done stays done, and does not depend on how."""

import json

import numpy as np
import pytest

from rlgen.core.errors import UserError
from rlgen.core.process import worker_pool
from rlgen.data.formats.hdf5.reader import read_demos
from rlgen.demos.record import (
    Attempt,
    Job,
    Recording,
    attempt,
    demonstration_file,
    make_attempts,
    record_demonstrations,
)


@pytest.fixture
def job(scene_of) -> Job:
    return Job(scene_of("libero_goal/7").folder, "train", 3, "fast", clean=True)


@pytest.fixture(scope="module")
def workers():
    with worker_pool(2) as pool:
        yield pool


def record(job, out, workers, count=3, limit=9):
    return list(record_demonstrations(job, out, count, limit=limit, pool=workers, workers=2))


def test_a_recording_is_a_file_of_successes_in_order(job, scene_of, tmp_path, workers):
    *attempts, recording = record(job, tmp_path, workers)
    scene = scene_of("libero_goal/7")
    file = demonstration_file(tmp_path, scene)
    assert recording == Recording(file, 3, len(attempts))
    assert [ended.number for ended in attempts] == list(range(len(attempts)))
    demos = read_demos(file)
    good = [ended for ended in attempts if ended.success]
    assert [len(demo) for demo in demos] == [ended.steps for ended in good]
    assert all(demo.success and demo.task == scene.task.id and demo.source == "scripted" for demo in demos)
    assert [demo.initial_index for demo in demos] == [ended.number for ended in good]
    told = json.loads(file.with_suffix(".json").read_text())
    assert told["demonstrations"] == 3 and told["style"] == "clean" and told["attempts"] == len(attempts)
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name, file.with_suffix(".json").name]


def test_an_interrupted_recording_goes_on_with_the_next_attempt(job, scene_of, tmp_path, workers):
    whole = tmp_path / "whole"
    record(job, whole, workers)
    broken = tmp_path / "broken"
    folder = demonstration_file(broken, scene_of("libero_goal/7")).with_suffix(".attempts")
    attempts = make_attempts(job, folder, enough=lambda done: False, limit=9, pool=workers, workers=1)
    first = next(attempts)
    attempts.close()
    *again, _ = record(job, broken, workers)
    # Its seconds would be others, had it been made again.
    assert again[0] == first
    files = [demonstration_file(out, scene_of("libero_goal/7")) for out in (whole, broken)]
    one, other = (read_demos(file) for file in files)
    for mine, yours in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine.states, yours.states)
        np.testing.assert_array_equal(mine.actions, yours.actions)


def test_an_attempt_that_was_made_is_not_made_again(job, tmp_path):
    told = {"number": 4, "success": False, "steps": 12, "seconds": 0.5}
    (tmp_path / "00004.json").write_text(json.dumps(told))
    assert attempt(job, tmp_path, 4) == Attempt(**told)


def test_attempts_made_otherwise_are_refused(job, tmp_path, workers):
    list(make_attempts(job, tmp_path, enough=len, limit=1, pool=workers, workers=1))
    other = Job(job.bundle, job.split, job.seed + 1, job.mode, job.clean)
    with pytest.raises(UserError, match="made otherwise"):
        next(make_attempts(other, tmp_path, enough=len, limit=1, pool=workers, workers=1))


def test_the_limit_is_kept(job, tmp_path, workers):
    assert len(list(make_attempts(job, tmp_path, enough=lambda done: False, limit=2, pool=workers, workers=2))) == 2
