"""Statistics compared with values by hand, and OpenVLA's gripper with its own transform."""

import numpy as np
import pytest

from rlgen.data.statistics import dataset_statistics, moments


def test_moments_by_hand():
    values = np.stack([np.arange(101.0), np.full(101, 3.0)], axis=1)
    result = moments(values)
    np.testing.assert_allclose(result.mean, [50, 3])
    np.testing.assert_allclose(result.std, [np.sqrt((101**2 - 1) / 12), 0])
    np.testing.assert_allclose([result.min[0], result.q01[0], result.q99[0], result.max[0]], [0, 1, 99, 100])


def test_a_small_standard_deviation_survives_float32():
    values = (1000 + np.random.default_rng(0).normal(0, 0.01, (50_000, 1))).astype(np.float32)
    assert moments(values).std[0] == pytest.approx(values.astype(np.float64).std(), rel=1e-9)


def test_openvla_takes_the_gripper_as_one_for_open(dataset_episode_of):
    episodes = [dataset_episode_of(seed, steps=4 + 3 * seed) for seed in range(4)]
    ours = dataset_statistics(episodes).openvla()
    actions = np.concatenate([episode.action for episode in episodes]).astype(np.float64)
    actions[:, 6] = 1 - np.clip(actions[:, 6], 0, 1)
    for name, values in (
        ("mean", actions.mean(0)),
        ("std", actions.std(0)),
        ("min", actions.min(0)),
        ("max", actions.max(0)),
        ("q01", np.quantile(actions, 0.01, axis=0)),
        ("q99", np.quantile(actions, 0.99, axis=0)),
    ):
        np.testing.assert_allclose(ours["action"][name], values, atol=1e-12, err_msg=name)
    # Its policies scale by these statistics where the mask holds: 1 and 0 of the gripper stay as they are.
    assert ours["action"]["mask"] == [True] * 6 + [False]
    assert (ours["num_transitions"], ours["num_trajectories"]) == (len(actions), 4)
    assert len(ours["proprio"]["mean"]) == 8


def test_openpi_takes_actions_as_stored(dataset_episode_of):
    episodes = [dataset_episode_of(seed) for seed in range(3)]
    stats = dataset_statistics(iter(episodes)).openpi()["norm_stats"]
    actions = np.concatenate([episode.action for episode in episodes])
    np.testing.assert_allclose(stats["actions"]["mean"], actions.mean(0, dtype=np.float64))
    assert set(stats["state"]) == {"mean", "std", "q01", "q99"}


def test_no_episodes():
    with pytest.raises(ValueError, match="no episodes"):
        dataset_statistics([])
