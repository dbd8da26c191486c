import json

import jax
import numpy as np
import pytest
from vla.openpi import arrays

from rlgen.errors import UserError
from rlgen.vla import transforms
from rlgen.vla.presets import tiny
from rlgen.vla.transforms import NormStats, Statistics


def golden_statistics() -> Statistics:
    given = arrays("normalize", "misc")
    return Statistics(*(given[f"running/{name}"] for name in transforms.NUMBERS))


@pytest.mark.parametrize("case", ["same", "narrow"])
def test_normalising_is_the_references(case):
    given = arrays("normalize", "misc")
    ours = transforms.normalise(golden_statistics(), given[f"float64/{case}/x"])
    np.testing.assert_allclose(ours, given[f"float64/{case}/normalize_zscore"], rtol=1e-6)


@pytest.mark.parametrize("case", ["same", "wide"])
def test_undoing_it_is_the_references(case):
    given = arrays("normalize", "misc")
    ours = transforms.unnormalise(golden_statistics(), given[f"float32/{case}/x"])
    np.testing.assert_allclose(ours, given[f"float32/{case}/unnormalize_zscore"], rtol=2e-5, atol=1e-6)


def test_mean_and_deviation_are_the_references():
    given = arrays("normalize", "misc")
    ours = transforms.statistics(np.concatenate([given[f"running/batch{i}"] for i in range(4)]))
    np.testing.assert_allclose(ours.mean, given["running/mean"], rtol=1e-6)
    np.testing.assert_allclose(ours.std, given["running/std"], rtol=1e-5)


@pytest.mark.parametrize("image", ["img0", "img1"])
def test_resizing_is_the_references(image):
    given = arrays("image_resize", "misc")
    theirs = given[f"{image}/jax_uint8"]
    ours = np.asarray(transforms.resize(given[f"{image}/input_uint8"][None], theirs.shape[-2]))
    assert np.abs(ours.reshape(theirs.shape).astype(int) - theirs).max() <= 1


def test_resizing_pads_to_a_square_in_the_middle():
    white = np.full((1, 8, 4, 3), 255, np.uint8)
    out = np.asarray(transforms.resize(white, 8))[0, :, :, 0]
    assert (out[:, 2:6] == 255).all() and (out[:, :2] == 0).all() and (out[:, 6:] == 0).all()


def test_upright_turns_by_half_a_circle():
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert transforms.upright(picture)[0, 0].tolist() == picture[1, 1].tolist()
    np.testing.assert_array_equal(transforms.upright(transforms.upright(picture)), picture)


def test_actions_survive_the_way_to_the_model_and_back():
    random = np.random.default_rng(0)
    actions = random.uniform(-1, 1, (5, 16, 7)).astype(np.float32)
    actions[..., -1] = np.sign(actions[..., -1])
    actions[..., 4] = 0.25  # never varies: its deviation is 0
    stats = NormStats(transforms.statistics(random.normal(size=(9, 8))), transforms.statistics(actions.reshape(-1, 7)))
    inside = transforms.model_actions(tiny(), stats, actions)
    assert inside.shape[-1] == 8 and float(np.abs(inside[..., 7]).max()) == 0
    np.testing.assert_allclose(transforms.robot_actions(stats, inside), actions, atol=1e-5)


def test_robot_actions_are_legal_whatever_the_model_says():
    stats = NormStats(*[Statistics(np.zeros(8), np.ones(8), np.zeros(8), np.zeros(8))] * 2)
    out = np.asarray(transforms.robot_actions(stats, np.array([[[9.0, -9, 0.5, 0, 0, 0, -0.1, 3]]])))
    # openpi adds 1e-6 to the deviation, which is 1 here.
    np.testing.assert_allclose(out, [[[1, -1, 0.5 * (1 + 1e-6), 0, 0, 0, -1]]], atol=1e-7)
    assert np.abs(out).max() == 1 and out[0, 0, -1] == -1


def test_a_state_far_from_all_data_is_limited():
    stats = NormStats(*[Statistics(np.zeros(8), np.full(8, 1e-4), np.zeros(8), np.zeros(8))] * 2)
    config, blank = tiny(), np.zeros((1, 128, 128, 3), np.uint8)
    pictures = {name: blank for name in config.cameras}
    prompt = np.zeros((1, config.prompt_length), np.int32)
    inputs = transforms.model_inputs(config, stats, pictures, np.full((1, 8), -0.1), prompt, prompt == 0)
    assert inputs.state.tolist() == [[-config.state_limit] * 8]
    assert float(inputs.pictures["base_0_rgb"].max()) == -1


def test_statistics_survive_json():
    stats = NormStats(transforms.statistics(np.random.default_rng(0).normal(size=(9, 8))), golden_statistics())
    again = NormStats.from_json(json.loads(json.dumps(stats.to_json())))
    jax.tree.map(np.testing.assert_allclose, again, stats)


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: value.clear(),
        lambda value: value["norm_stats"].pop("actions"),
        lambda value: value["norm_stats"]["state"].update(mean=[float("nan")] * 8),
        lambda value: value["norm_stats"]["state"].update(std=[1.0]),
        lambda value: value["norm_stats"].update(state=3),
    ],
)
def test_damaged_statistics_are_refused_in_a_line(damage):
    stats = transforms.statistics(np.ones((2, 8)))
    value = NormStats(stats, stats).to_json()
    damage(value)
    with pytest.raises(UserError, match="normalisation statistics") as error:
        NormStats.from_json(value)
    assert "\n" not in str(error.value)
