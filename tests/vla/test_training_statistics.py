"""Numbers that hardly vary, or hardly ever, and how they are normalized: kinds of data, of statistics, of vectors."""

import dataclasses
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from vla.toy import CONFIG

from rlgen.data.frames import MemoryFrames, frame_table, open_frames
from rlgen.data.loader import Mixture, Subset, mix
from rlgen.vla.data.normalize import (
    FIELDS,
    LIBERO_DELTA,
    NormStats,
    Statistics,
    mixture_statistics,
    normalize,
    statistics,
    unnormalize,
)
from rlgen.vla.data.spec import InputSpec, make_pipeline
from rlgen.vla.data.training_statistics import LARGEST, WIDENED, training_statistics
from rlgen.vla.model.config import VlaConfig

FRAMES, SIZES, FIXTURES = 240, {"state": 8, "actions": 7}, Path(__file__).parents[1] / "fixtures" / "0.1.0"
NUMBER = 4
"""Index of the number that hardly varies."""


def ordinary(random: np.random.Generator, size: int, frames: int = FRAMES) -> np.ndarray:
    values = random.normal(0, 0.3, (frames, size)).clip(-1, 1).astype(np.float32)
    values[:, -1] = random.choice([-1, 1], frames)
    return values


def still(column):
    column[:] = 0


def still_elsewhere(column):
    column[:] = 0.1


def far_away(column):
    column[:] = 1e6


def rare(column):
    column[:] = 0
    column[137] = 0.3


def rare_and_noisy(column):
    column *= 1e-5
    column[137] = 0.3


def jitter(column):
    column *= 1e-6


def tiny(column):
    column *= 1e-3
    column[137] = 0.9


HARDLY = (still, still_elsewhere, far_away, rare, rare_and_noisy, jitter, tiny)


def source(state, action) -> MemoryFrames:
    images = np.zeros((len(state), 8, 8, 3), np.uint8)
    return MemoryFrames(
        frame_table(state, action, [40] * (len(state) // 40), ["go"] * (len(state) // 40)), images, images
    )


def data(vector: str, change, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    values = {name: ordinary(random, size) for name, size in SIZES.items()}
    change(values[vector][:, NUMBER])
    return values


def subset(values) -> Subset:
    return Subset(source(values["state"], values["actions"]), np.arange(FRAMES), float(FRAMES))


def model_of(horizon: int, prompt_length: int = 48) -> VlaConfig:
    return dataclasses.replace(CONFIG, horizon=horizon, prompt_length=prompt_length)


def through(spec: InputSpec, stats: NormStats, values) -> dict[str, np.ndarray]:
    """Returns the states, and the actions as chunks of one, as the model reads them."""
    images = np.zeros((FRAMES, 8, 8, 3), np.uint8)
    pipeline = make_pipeline(dataclasses.replace(CONFIG, state_limit=float("inf")), spec, stats)
    sample = {"observation/image": images, "observation/wrist_image": images, "prompt": ["go"] * FRAMES}
    return pipeline.inputs({**sample, "observation/state": values["state"], "actions": values["actions"][:, None]})


@pytest.mark.parametrize("kind", ["zscore", "quantile"])
@pytest.mark.parametrize("vector", SIZES)
@pytest.mark.parametrize("change", HARDLY, ids=lambda change: change.__name__)
def test_what_hardly_varies_stays_small_and_comes_back(kind, vector, change):
    """In training and in serving, whatever the statistics were before."""
    spec, values = InputSpec(kind), data(vector, change)
    stats, notes = training_statistics(model_of(1), spec, Mixture((subset(values),)))
    inside = through(spec, stats, values)
    for name, size in SIZES.items():
        found = inside[name].reshape(FRAMES, -1)[:, :size]
        assert np.abs(found).max() <= 20, name
        # Outside of float32's rounding of the value itself.
        back = unnormalize(getattr(stats, name), found, kind)
        np.testing.assert_allclose(back, values[name], rtol=1e-5, atol=2e-6, err_msg=name)
    widened = [note for note in notes if note.startswith(f"{vector}[{NUMBER}]:")]
    assert len(widened) == (
        0 if (kind, change) in {("zscore", rare), ("zscore", rare_and_noisy), ("zscore", tiny)} else 1
    )
    others = [note for note in notes if note not in widened and "LIBERO" not in note]
    assert not others


@pytest.mark.parametrize("kind", ["zscore", "quantile"])
@pytest.mark.parametrize("vector", SIZES)
@pytest.mark.parametrize("change", HARDLY[:-1], ids=lambda change: change.__name__)
def test_a_held_out_episode_that_moves_what_stood_still_stays_small(kind, vector, change):
    spec, values, held = InputSpec(kind), data(vector, change), data(vector, lambda column: None, seed=1)
    offset = values[vector][0, NUMBER]
    held[vector][:, NUMBER] += offset
    stats, notes = training_statistics(model_of(1), spec, Mixture((subset(values),)), Mixture((subset(held),)))
    assert np.abs(through(spec, stats, held)[vector]).max() <= 1.01 * LARGEST
    if change in (still, still_elsewhere, jitter):
        assert any(note.startswith(f"{vector}[{NUMBER}]:") for note in notes)


@pytest.mark.parametrize("kind", ["zscore", "quantile"])
@pytest.mark.parametrize("vector", SIZES)
@pytest.mark.parametrize("change", HARDLY, ids=lambda change: change.__name__)
def test_given_statistics_of_data_that_stood_still_are_widened_for_data_that_moves(kind, vector, change):
    spec, values = InputSpec(kind), data(vector, lambda column: None)
    given = NormStats(*(statistics(x) for x in data(vector, change, seed=1).values()))
    stats, notes = training_statistics(model_of(1), spec, Mixture((subset(values),)), given=given)
    assert np.abs(through(spec, stats, values)[vector]).max() <= 1.01 * LARGEST
    for name in SIZES:
        for field in FIELDS:
            before, after = (getattr(getattr(each, name), field) for each in (given, stats))
            same = np.flatnonzero(before != after)
            assert set(same) <= ({NUMBER} if name == vector else set()), (name, field)
    if change not in (rare, rare_and_noisy, tiny):
        assert any(note.startswith(f"{vector}[{NUMBER}]:") for note in notes)


@pytest.mark.parametrize("kind", ["zscore", "quantile"])
@pytest.mark.parametrize("seed", range(20))
def test_normalizing_and_back_are_inverse_for_any_statistics(kind, seed):
    random = np.random.default_rng(seed)
    scale = 10.0 ** random.uniform(-9, 6, 8) * random.choice([0, 1, 1], 8)
    values = (random.normal(0, 1, (FRAMES, 8)) * scale + random.normal(0, 10, 8)).astype(np.float32)
    rows = random.integers(FRAMES, size=8)
    values[rows, np.arange(8)] += random.choice([0, 0, 1], 8).astype(np.float32)
    actions = ordinary(random, 7)
    spec = InputSpec(kind)
    stats, _ = training_statistics(model_of(1), spec, Mixture((subset({"state": values, "actions": actions}),)))
    inside = normalize(stats.state, values, kind)
    assert inside.dtype == np.float32 and np.abs(inside).max() <= LARGEST + 1
    back = unnormalize(stats.state, inside, kind)
    # As float32 is, relative to the largest value of the number.
    assert (np.abs(back - values) <= 5e-7 * np.maximum(1, np.abs(values).max(0))).all()
    # The other way, for whatever a model answers within a few standard deviations.
    answer = random.normal(0, 1, (50, 8)).astype(np.float32)
    again = normalize(stats.state, unnormalize(stats.state, answer, kind), kind)
    resolution = np.spacing(np.abs(values).max(0)) / np.maximum(
        stats.state.std, (stats.state.q99 - stats.state.q01) / 2
    )
    assert (np.abs(again - answer) <= 1e-4 + 8 * resolution).all()


@pytest.mark.parametrize("kind", ["zscore", "quantile"])
@pytest.mark.parametrize("delta", [False, True])
def test_ordinary_data_keeps_its_statistics_to_the_last_bit(kind, delta):
    values = data("state", lambda column: None)
    mixture = Mixture((subset(values),))
    spec = InputSpec(kind, "absolute", delta)
    stats, notes = training_statistics(model_of(5), spec, mixture)
    assert notes == []
    same(stats, mixture_statistics(mixture, 5, delta=delta))
    given = NormStats(*(statistics(ordinary(np.random.default_rng(3), size)) for size in SIZES.values()))
    same(training_statistics(model_of(5), spec, mixture, given=given)[0], given)


@pytest.mark.parametrize("kind", ["zscore", "quantile"])
def test_data_of_libero_keeps_its_statistics_to_the_last_bit(kind, tmp_path):
    with tarfile.open(FIXTURES / "datasets.tar.xz") as file:
        file.extractall(tmp_path, filter="data")
    mixture = mix([open_frames(tmp_path / "datasets" / "array_record" / "libero_object_no_noops" / "1.0.0")])
    stats, notes = training_statistics(model_of(16), InputSpec(kind), mixture)
    assert notes == []
    same(stats, mixture_statistics(mixture, 16, delta=False))


def test_differences_from_the_state_are_looked_at_as_they_are_normalized():
    values = data("actions", lambda column: None)
    values["actions"][:, NUMBER] = values["state"][:, NUMBER]
    spec = InputSpec("quantile", "absolute", delta=True)
    stats, notes = training_statistics(model_of(1), spec, Mixture((subset(values),)))
    assert LIBERO_DELTA[NUMBER] and any(note.startswith(f"actions[{NUMBER}]: quantiles of 0 and 0") for note in notes)
    assert (stats.actions.q99 - stats.actions.q01)[NUMBER] >= 0.02


def test_changed_numbers_reach_the_limit_and_no_more():
    values = data("actions", still)
    held = data("actions", still, seed=1)
    held["actions"][3, NUMBER] = 1
    spec = InputSpec("quantile")
    stats, _ = training_statistics(model_of(1), spec, Mixture((subset(values),)), Mixture((subset(held),)))
    assert through(spec, stats, held)["actions"].max() == pytest.approx(WIDENED, rel=1e-3)


@pytest.mark.parametrize(
    "column, change, text",
    [
        (6, lambda x: (x + 1) / 2, r"actions\[6\], the gripper, goes from 0 to 1; in LIBERO -1 opens"),
        (2, lambda x: 35 * x, r"actions\[2\] reaches 35; LIBERO's relative actions lie in \[-1, 1\]"),
    ],
)
def test_actions_that_the_environment_would_execute_as_others_are_named(column, change, text):
    values = data("state", lambda column: None)
    values["actions"][0, column] = 1
    values["actions"][:, column] = change(values["actions"][:, column])
    _, notes = training_statistics(model_of(1), InputSpec(), Mixture((subset(values),)))
    assert len(notes) == 1 and re.match(text, notes[0])


def test_a_quaternion_in_the_state_is_named():
    values = data("state", lambda column: None)
    values["state"][:, 3:7] /= np.linalg.norm(values["state"][:, 3:7], axis=1, keepdims=True)
    _, notes = training_statistics(model_of(1), InputSpec(), Mixture((subset(values),)))
    assert len(notes) == 1 and notes[0].startswith("state[3] to state[6] have length 1")


def test_a_prompt_that_the_model_cannot_read_to_its_end_is_named():
    mixture = Mixture((subset(data("state", lambda column: None)),))
    for length, notes in ((3, 0), (2, 1)):
        _, found = training_statistics(model_of(1, length), InputSpec(), mixture)
        assert len(found) == notes and all("longer than the 2 tokens" in note for note in found)


def same(ours: NormStats, theirs: NormStats) -> None:
    for name in SIZES:
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(getattr(ours, name), field), getattr(getattr(theirs, name), field))


def test_statistics_are_arrays_of_float32():
    stats, _ = training_statistics(model_of(1), InputSpec("quantile"), Mixture((subset(data("state", rare)),)))
    assert isinstance(stats.state, Statistics) and all(
        getattr(stats.state, field).dtype == np.float32 for field in FIELDS
    )
