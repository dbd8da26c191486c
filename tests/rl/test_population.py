"""Experts in one program are those alone, to rounding; what goes wrong with one of them is nothing to the others."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
from fake_devices import finish
from fake_devices import start as start_program
from rl.test_ppo import CONFIG, CRITIC, DIFFUSION, ENVIRONMENTS, copy, fresh_state, run
from rl.worlds import PointEnv

from rlgen.core.errors import UserError
from rlgen.rl.numerics import NonFiniteError
from rlgen.rl.population import check_population, expert_mesh, iterate_population
from rlgen.rl.ppo import Expert

PROGRAM = Path(__file__).parent / "population_program.py"
SEEDS = (5, 6, 7)


def start(seed: int):
    return fresh_state(DIFFUSION, CONFIG, jax.random.PRNGKey(10 + seed), jax.random.PRNGKey(seed))


def expert(state, seed: int, env=None, **change) -> Expert:
    config = dataclasses.replace(CONFIG, **change)
    return Expert(DIFFUSION, CRITIC, config, state, env or PointEnv(ENVIRONMENTS), seed)


def assert_close(found, alone) -> None:
    for name in ("net", "critic", "scaler"):
        pairs = zip(*map(jax.tree.leaves, (getattr(found, name), getattr(alone, name))), strict=True)
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours, theirs, atol=3e-5, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("vectorized", [True, False], ids=["side by side", "one after the other"])
def test_experts_together_are_runs_alone_though_each_is_at_another_iteration(vectorized):
    # The first has had an iteration, in which only the critic learns.
    states = [run(start(seed), iterations, seed=seed)[0] for seed, iterations in zip(SEEDS, (1, 0, 0), strict=True)]
    chunks: list[int] = []
    experts = [expert(copy(state), seed) for state, seed in zip(states, SEEDS, strict=True)]
    experts[0] = dataclasses.replace(experts[0], on_chunk=chunks.append)
    for _ in range(2):
        ended = iterate_population(experts, vectorized=vectorized, threads=2)
        experts = [dataclasses.replace(one, state=state) for one, (state, _) in zip(experts, ended, strict=True)]
    assert chunks == 2 * list(range(1, CONFIG.chunks + 1))
    for (found, metrics_of), state, seed in zip(ended, states, SEEDS, strict=True):
        alone, metrics = run(state, 2, seed=seed)
        for name in ("success", "control_steps", "epochs"):
            assert metrics_of[name] == metrics[name]
        assert_close(found, alone)
        assert int(found.iteration) == int(alone.iteration) and metrics_of["experts"] == len(SEEDS)
        assert metrics_of.keys() == metrics.keys() | {"experts"}


def test_seconds_are_shares_of_the_iteration():
    ended = iterate_population([expert(start(seed), seed) for seed in SEEDS])
    for _, metrics in ended:
        parts = sum(metrics[f"seconds_{name}"] for name in ("environment", "rendering", "sampler", "update"))
        assert 0 < parts + metrics["seconds_waiting"] < 1.5 * metrics["seconds_total"]
    assert ended[0][1]["seconds_total"] == ended[1][1]["seconds_total"]


class FallingEnv(PointEnv):
    """A world that ends by an error when it is reset, or stepped for the third time."""

    def __init__(self, where: str):
        super().__init__(ENVIRONMENTS)
        self._where, self._calls = where, 0

    def reset(self, states, fixtures=None):
        if self._where == "reset":
            raise OSError(28, "No space left on device")
        return super().reset(states, fixtures)

    def step(self, chunks, *, reset_states=None):
        self._calls += 1
        if self._calls == 3:
            raise ValueError("it fell")
        return super().step(chunks, reset_states=reset_states)


def with_nan(state, part: str):
    def nan(leaf):
        return np.full_like(leaf, np.nan) if np.issubdtype(leaf.dtype, np.floating) else leaf

    return dataclasses.replace(state, **{part: jax.tree.map(nan, getattr(state, part))})


FAULTS = {
    "reset": (lambda state: expert(state, 6, FallingEnv("reset")), OSError, "No space"),
    "step": (lambda state: expert(state, 6, FallingEnv("step")), ValueError, "it fell"),
    "policy": (lambda state: expert(with_nan(state, "net"), 6), NonFiniteError, "sampled_actions is not finite"),
    "update": (lambda state: expert(with_nan(state, "actor_optimizer"), 6), NonFiniteError, "policy_parameters"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_of_one_expert_is_its_own(fault):
    make, kind, words = FAULTS[fault]
    # Beyond the warm-up, so that the policy's optimizer is used.
    states = [run(start(seed), 1, seed=seed)[0] for seed in SEEDS[:3]]
    experts = [expert(states[0], 5), make(states[1]), expert(states[2], 7)]
    first, error, last = iterate_population(experts)
    assert isinstance(error, kind) and words in str(error)
    for (found, _), state, seed in ((first, states[0], 5), (last, states[2], 7)):
        alone, _ = run(state, 1, seed=seed)
        assert_close(found, alone)


def test_where_all_fail_each_has_its_error():
    ended = iterate_population([expert(start(5), 5, FallingEnv("reset")), expert(start(6), 6, FallingEnv("step"))])
    assert [type(error) for error in ended] == [OSError, ValueError]


@pytest.mark.parametrize(("change", "words"), [({"groups": 2}, "ppo.groups 2"), ({"world": "warp"}, "ppo.world warp")])
def test_settings_that_one_program_does_not_allow_are_one_line(change, words):
    with pytest.raises(UserError, match=words) as raised:
        check_population(dataclasses.replace(CONFIG, **change))
    assert "\n" not in str(raised.value)


def test_one_device_needs_no_mesh():
    assert expert_mesh(3) is None


@pytest.mark.slow
def test_experts_are_divided_over_devices():
    [printed] = finish(start_program(PROGRAM, devices=3))
    # Three of the devices would not divide them.
    assert "4 experts on 2 devices" in printed
