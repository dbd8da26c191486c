"""Configurations that version 0.1.0 stored open under the names of this one."""

import dataclasses
import json
import tarfile
from pathlib import Path

import pytest

from rlgen.configs.aliases import _RENAMED_SINCE_1, upgrade
from rlgen.configs.presets import expert_presets
from rlgen.configs.schema import Config
from rlgen.configs.stored import from_json, to_json
from rlgen.core.errors import UserError

FIXTURES = Path(__file__).parents[1] / "fixtures" / "0.1.0"


def stored(name: str) -> dict:
    """The configuration of a run of 0.1.0 as JSON."""
    with tarfile.open(FIXTURES / f"{name}.tar.xz") as file:
        return json.loads(file.extractfile(f"{name}/run.json").read())["config"]


def paths(config) -> set[str]:
    """The settings of a configuration, with dots."""
    found = set()
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            found |= {f"{field.name}.{path}" for path in paths(value)}
        else:
            found.add(field.name)
    return found


def test_a_run_with_images_keeps_every_choice():
    config = from_json(upgrade(stored("images"), 1))
    policy = config.policy
    assert policy.observation == "images" and policy.network == "mlp" and policy.mlp_widths == (8,)
    assert (policy.image_encoder.image_size, policy.image_encoder.widths) == (32, (8, 8, 8))
    assert policy.image_encoder.embedding_size == 8
    assert policy.critic.privileged and policy.critic.widths == (8,)
    chain = policy.diffusion
    assert (chain.sampler, chain.train_timesteps, chain.num_finetuned_steps) == ("ddpm", 10, 3)
    assert config.ppo.action_steps == 4 and config.bc.optimizer_steps == 10


@pytest.mark.parametrize("name", ["state", "gaussian", "images"])
def test_what_is_upgraded_is_stored_and_read_again(name):
    config = from_json(upgrade(stored(name), 1))
    assert from_json(json.loads(json.dumps(to_json(config)))) == config
    assert upgrade(to_json(config), 2) == to_json(config)


def test_runs_of_before_there_was_a_choice_have_fixed_fixtures():
    value = to_json(Config())
    assert value.pop("fixtures") == value["evaluate"].pop("fixtures") == "redraw"
    for old in (from_json(upgrade(value, 2)), from_json(upgrade(stored("state"), 1))):
        assert old.fixtures == old.evaluate.fixtures == "fixed"
    value["fixtures"] = "redraw"
    assert from_json(upgrade(value, 2)).fixtures == "redraw"


def test_no_old_setting_is_forgotten():
    new = paths(Config())
    old = stored("state")
    flat = {path for path, _ in _flat(old)}
    assert {_RENAMED_SINCE_1.get(path, path) for path in flat} <= new
    assert set(_RENAMED_SINCE_1) <= flat and set(_RENAMED_SINCE_1.values()) <= new


def _flat(value: dict, prefix: str = ""):
    for name, entry in value.items():
        if isinstance(entry, dict):
            yield from _flat(entry, f"{prefix}{name}.")
        else:
            yield prefix + name, entry


@pytest.mark.parametrize("name", sorted(expert_presets()))
def test_presets_survive_json(name):
    config = expert_presets()[name]
    assert from_json(json.loads(json.dumps(to_json(config)))) == config


def test_a_reward_for_steadiness_that_was_not_paid_is_forgotten_and_one_that_was_is_refused():
    value = to_json(Config())
    old = {**value, "ppo": {**value["ppo"], "jerk_cost": 0.0}}
    assert from_json(upgrade(old, 2)) == Config()
    with pytest.raises(UserError, match="jerk_cost"):
        from_json(upgrade({**value, "ppo": {**value["ppo"], "jerk_cost": 0.1}}, 2))
