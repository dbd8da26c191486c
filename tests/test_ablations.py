"""The ablations' runs: what each starts from, that its options do what they say, and how pairs are compared."""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlgen.cli.common import parse
from rlgen.cli.run import RunArguments
from rlgen.configs.differences import differences
from rlgen.configs.presets import expert_presets
from rlgen.core.files import write_json
from rlgen.pipeline.policy import make_policy
from rlgen.training.run import create_run

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "experiments"))
import ablations

sys.path.pop(0)
STATE = expert_presets()["state"]
CHANGED = {
    "schedule": {"ppo.schedule"},
    "environments": {"ppo.environments", "ppo.batch"},
    "sampler": {"policy.diffusion.sampler", "policy.diffusion.num_finetuned_steps", "ppo.batch"},
    "network": {"policy.network"},
    "habits": {"demos.habits"},
    "objects": {"policy.objects"},
    "gaussian": {"policy.algorithm"},
    "gaussian-habits": {"demos.habits", "policy.algorithm"},
}


def config_of(name):
    variant = ablations.ABLATIONS[name].variant
    default = RunArguments(stage="bc", config=STATE)
    return parse(RunArguments, [variant.first, *variant.options], "rlgen run", "", default).config


@pytest.mark.unit
@pytest.mark.parametrize("name", ablations.ABLATIONS)
def test_a_variant_differs_in_what_it_is_named_for_and_samples_in_its_own_widths(name, monkeypatch):
    config = config_of(name)
    before, now = dataclasses.asdict(STATE), dataclasses.asdict(config)
    assert {line.split(" ")[0] for line in differences(before, now)} == CHANGED[name]
    monkeypatch.setattr("rlgen.pipeline.policy.observation_size", lambda _: 31)
    policy = make_policy(config, None)
    params = jax.eval_shape(policy.init, jax.random.PRNGKey(0))
    sample = jax.eval_shape(policy.sample, params, jax.random.PRNGKey(1), jnp.zeros((4, 31)))
    assert sample.chain.shape == (4, policy.num_trained_steps + 1, policy.horizon, policy.action_size)
    assert policy.num_trained_steps == {"sampler": 10, "gaussian": 1, "gaussian-habits": 1}.get(name, 5)


@pytest.mark.unit
@pytest.mark.parametrize("name", ["environments", "sampler"])
@pytest.mark.parametrize("chunks", [35, 55])
def test_a_variant_has_as_many_updates(name, chunks):
    steps = {"environments": 5, "sampler": 10}[name]
    counts = [
        ppo.environments * chunks * trained // ppo.batch
        for ppo, trained in ((STATE.ppo, 5), (config_of(name).ppo, steps))
    ]
    assert counts[0] == counts[1] > 1


def finish(folder, clone, expert):
    """Writes what PPO leaves of a run, as far as the ledger reads it."""

    def score(successes, length, jerk):
        return {"successes": successes, "trials": 50, "length": length, "mean_squared_jerk": jerk}

    result = {"heldout": {"bc": score(*clone), "ppo": score(*expert)}, "exploration": {}, "iterations": 30}
    write_json(folder / "ppo" / "done.json", result)
    lines = [{"step": 0, "control_steps": 0, "test": score(*clone)}, {"step": 1, "control_steps": 9}]
    (folder / "ppo" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def starts(tmp_path):
    """Finished runs of two seeds."""
    found = []
    for seed in (0, 1):
        folder = tmp_path / f"fleet-{seed}"
        create_run(folder, dataclasses.replace(STATE, seed=seed), {"kind": "placeholders", "path": "", "label": "x"})
        for stage in ("demos", "bc", "ppo", "collect"):
            (folder / stage).mkdir(exist_ok=True)
            (folder / stage / "mark").write_text(stage)
        finish(folder, (50, 100.0, 80.0), (50, 90.0, 60.0 + seed))
        found.append(ablations.Start("libero_goal/2", seed, folder))
    return found


@pytest.mark.unit
def test_a_variant_starts_from_what_it_shares_and_is_not_run_again(starts, tmp_path):
    commands = []

    def execute(words):
        commands.append(words)
        folder = Path(words[words.index("--run") + 1])
        if words[1] == "ppo":
            assert not (folder / "collect").exists() and not (folder / "ppo" / "mark").exists()
            finish(folder, (49, 100.0, 80.0), (45, 92.0, 70.0))
        return 30.0

    ledger = tmp_path / "out" / "ledger.jsonl"
    for _ in range(2):
        ablations.run_missing(starts, ["schedule", "network"], tmp_path / "runs", ledger, 1, execute)
    assert [words[1] for words in commands] == ["ppo", "bc", "ppo"] * 2
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    seconds = {(line["run"], line["seed"]): line.get("core_seconds") for line in lines}
    expected = {"recipe": None, "schedule": 30.0, "network": 60.0}
    assert seconds == {(name, seed): cost for name, cost in expected.items() for seed in (0, 1)} and len(lines) == 6
    copies = {name: tmp_path / "runs" / f"{name}-libero_goal-2-1" for name in ("schedule", "network")}
    assert (copies["schedule"] / "bc" / "mark").exists() and not (copies["network"] / "bc").exists()
    assert (copies["network"] / "demos" / "mark").read_text() == "demos"
    assert (starts[0].folder / "collect" / "mark").exists() and (starts[0].folder / "ppo" / "mark").exists()


@pytest.mark.unit
def test_experts_are_compared_in_pairs(starts, tmp_path, monkeypatch):
    def execute(words):
        seed = int(words[words.index("--run") + 1][-1])
        finish(Path(words[words.index("--run") + 1]), (49, 100.0, 80.0), (45, 92.0 + 2 * seed, 70.0 + seed))
        return 90.0

    monkeypatch.setattr(ablations, "RESULTS", tmp_path)
    assert ablations.ablation_table().startswith("None")
    ablations.run_missing(starts, ["schedule"], tmp_path / "runs", tmp_path / ablations.LEDGER, 1, execute)
    first, second = ablations.ablation_table().split("\n")[2:]
    assert first.startswith("| schedule | cosine | 2 | 100 → 100 | 100 → 90.0 | 80.0 → 60.5 |")
    # Lengths are 2 and 4 steps apart: 3, and Student's 12.7 times half of the distance between them.
    assert "| +3.0 (-9.7 to +15.7) | +10.0 (+10.0 to +10.0) | 2 |" in second.replace("1.5", "2")
    assert second.startswith("| schedule | constant | 2 | 98.0 → 90.0 | 100 → 93.0 | 80.0 → 70.5 | -10.0 (")
    ablations.draw(tmp_path)
    rows = (tmp_path / "ablations.csv").read_text().splitlines()
    assert len(rows) == 1 + 4 and (tmp_path / "ablations.png").stat().st_size > 5000


@pytest.mark.unit
def test_a_copy_that_broke_off_is_made_again(starts, tmp_path):
    target = tmp_path / "runs" / "copy"
    part = target.with_name("copy.part")
    part.mkdir(parents=True)
    (part / "rest").write_text("")
    ablations.copy_run(starts[0].folder, target, ("demos",))
    assert sorted(path.name for path in target.iterdir()) == ["demos", "run.json"] and not part.exists()
    assert np.all([path.exists() for path in (target / "demos" / "mark", starts[0].folder / "demos" / "mark")])
