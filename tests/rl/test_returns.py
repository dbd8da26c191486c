import numpy as np
import pytest
from dppo import cases, in_both, load, near

from rlgen.rl.losses import gae


@pytest.mark.parametrize("case", cases("06_rl_utils", "advantages"))
def test_chained_through_truncation_it_matches_golden(case):
    golden = load("06_rl_utils").below(case)
    gamma, lam, scale = golden["gamma_lambda_const"].tolist()
    # There an episode that is cut off counts as going on, into the first observation of the next.
    next_value = np.concatenate([golden["values"][1:], golden["next_values"][None]])
    terminated = golden["terminated"].astype(bool)

    def run(reward, value, next_value):
        return gae(reward * scale, value, next_value, terminated, np.zeros_like(terminated), gamma, lam)

    single, exact = in_both(run, golden["reward"], golden["values"], next_value)
    for name, rounded, precise in zip(("advantages", "returns"), single, exact, strict=True):
        # Of the critic's values, which are of single precision, the reference rounds the products.
        near(precise, golden[name], 1e-7, name, relative=True)
        near(rounded, precise, 1e-6, name, relative=True)


def test_worked_by_hand():
    gamma, lam = 0.9, 0.5
    reward = np.array([[0.0], [0.0], [1.0], [0.0], [0.0]])
    value = np.array([[0.2], [0.3], [0.5], [0.1], [0.4]])
    next_value = np.array([[0.3], [0.5], [7.0], [0.6], [0.8]])
    terminated = np.array([[0], [0], [1], [0], [0]])
    truncated = np.array([[0], [0], [0], [1], [0]])
    delta = [0.27 - 0.2, 0.45 - 0.3, 1.0 - 0.5, 0.54 - 0.1, 0.72 - 0.4]
    second = delta[1] + 0.45 * delta[2]
    advantage, returns = gae(reward, value, next_value, terminated, truncated, gamma, lam)
    want = [delta[0] + 0.45 * second, second, delta[2], delta[3], delta[4]]
    np.testing.assert_allclose(advantage[:, 0], want, rtol=1e-6)
    np.testing.assert_allclose(returns, advantage + value, rtol=1e-6)


def test_with_lambda_one_returns_are_discounted_sums():
    random = np.random.default_rng(0)
    reward, value, last = random.normal(size=(6, 3)), random.normal(size=(6, 3)), random.normal(size=3)
    next_value = np.concatenate([value[1:], last[None]])
    never = np.zeros((6, 3), bool)
    _, returns = gae(reward, value, next_value, never, never, 0.9, 1.0)
    total = last
    for step in reversed(range(6)):
        total = reward[step] + 0.9 * total
        np.testing.assert_allclose(returns[step], total, rtol=1e-5)


def test_nothing_leaks_from_the_next_episode():
    random = np.random.default_rng(1)
    arrays = [random.normal(size=(5, 2)) for _ in range(3)]
    never, cut = np.zeros((5, 2), bool), np.zeros((5, 2), bool)
    cut[2] = True
    before = gae(*arrays, never, cut, 0.99, 0.95)[0]
    later = [np.concatenate([array[:3], array[3:] + 10]) for array in arrays]
    np.testing.assert_array_equal(gae(*later, never, cut, 0.99, 0.95)[0][:3], before[:3])
