"""Whatever a stage decides, the stages after it work, or one line says what to do."""

import json
import re
import shlex
import shutil
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from pipeline.test_expert import CONFIG as EXPERT
from pipeline.test_expert import run, scores, start

from rlgen.cli.main import main
from rlgen.configs.schema import CollectConfig, Config, DemosConfig, ExportConfig
from rlgen.core.errors import UserError
from rlgen.core.ownership import check_contents
from rlgen.core.stats import SuccessRate
from rlgen.curation import validate
from rlgen.curation.sources import find_episode_files
from rlgen.data.dataset import open_dataset
from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.evaluation.loop import EpisodeFolder
from rlgen.libero.envs.replay import replay
from rlgen.libero.envs.rollouts import make_trials, run_episodes
from rlgen.pipeline import bc, collect, evaluate, ppo
from rlgen.pipeline import demos as demos_stage
from rlgen.pipeline.context import Context
from rlgen.pipeline.export import dataset_folder
from rlgen.pipeline.stages import RUN, check_config, with_config
from rlgen.rl import ppo as rl_ppo
from rlgen.rl.numerics import NonFiniteError
from rlgen.training.metrics import Metrics, read_metrics
from rlgen.training.run import change_config, open_run

CONFIG = replace(EXPERT, collect=CollectConfig(episodes=2), export=ExportConfig(image_size=16, shards=2))
REACHED = 19  # of 20: `CONFIG` wants 90 %
NOT_REACHED = 11


@pytest.fixture(scope="module")
def successes(placeholder_scene):
    """Two episodes that a finished expert might have run."""
    actor, trials = ScriptedExpert(placeholder_scene, clean=True), make_trials(2, 50, seed=8)
    [episodes] = run_episodes(placeholder_scene, actor, trials, split="train", source="ppo", width=2)
    return episodes


@pytest.fixture(scope="module", autouse=True)
def each_replay_runs_once():
    """Replays are deterministic, so the exports of this module share them."""
    results = {}

    def replay_once(scene, initial_state, actions):
        key = (initial_state.tobytes(), actions.tobytes())
        results[key] = results.get(key) or replay(scene, initial_state, actions)
        return results[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validate, "replay", replay_once)
        yield


def expert_runs(monkeypatch, episodes) -> None:
    """Lets the loaded expert run these episodes; the stage is as it is otherwise."""

    def gather(context, work, folder, actor, *, trials, wanted, **options):
        stored = EpisodeFolder(folder, wanted)
        if not stored.tried:
            stored.add(range(len(episodes)), episodes)
        return stored.load(), stored.tried

    monkeypatch.setattr(collect, "gather", gather)


def fail_in(monkeypatch, iteration: int) -> None:
    iterate = rl_ppo.iterate

    def fail(policy, critic, config, state, *rest):
        if int(state.iteration) == iteration:
            raise NonFiniteError("value_loss")
        return iterate(policy, critic, config, state, *rest)

    monkeypatch.setattr(rl_ppo, "iterate", fail)


def check_dataset(context: Context, episodes: int) -> None:
    """Takes a run to its dataset."""
    run(context, "collect", "export")
    dataset = open_dataset(dataset_folder(context))
    assert len(dataset) == context.run.result("export")["episodes"] == episodes
    _, params = ppo.load_policy(context)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("measured", "change", "cloned", "iterations"),
    [
        pytest.param([NOT_REACHED, REACHED], {}, 4, 0, id="the clone meets the target"),
        pytest.param([4, 9, 10, REACHED], {}, 12, 0, id="it does at the end of cloning"),
        pytest.param([NOT_REACHED, NOT_REACHED, REACHED], {}, 4, 1, id="PPO reaches the target"),
        pytest.param([NOT_REACHED, REACHED, REACHED], {"plateau": 1}, 4, 1, id="a good clone is polished"),
        pytest.param([NOT_REACHED, 0, 0], {"iterations": 1, "critic_warmup": 0}, 4, 1, id="nothing is reached"),
    ],
)
def test_every_end_of_training_leads_to_a_dataset(
    tmp_path, placeholder_scene, monkeypatch, successes, measured, change, cloned, iterations
):
    scores(monkeypatch, measured)
    expert_runs(monkeypatch, successes)
    config = replace(CONFIG, ppo=replace(CONFIG.ppo, **change))
    context = start(tmp_path / "run", placeholder_scene, config)
    run(context, "bc", "ppo")
    result = context.run.result("ppo")
    assert (context.run.result("bc")["steps"], result["iterations"]) == (cloned, iterations)
    assert SuccessRate.from_json(result["last"]).successes == measured[-1]
    [line, *rest] = read_metrics(context.run.folder / "ppo" / "metrics.jsonl")
    assert line["step"] == 0 and len(rest) == iterations
    check_dataset(context, 2)
    [source] = find_episode_files(context.run.folder)
    assert source.policy["checkpoint"] == f"ppo/checkpoints/{iterations}"


@pytest.mark.parametrize(("source", "name", "stage"), [("clone", "bc", "bc/"), ("exploring", "exploring", "ppo/")])
def test_the_episodes_of_another_actor_are_collected_beside_the_experts(
    tmp_path, placeholder_scene, monkeypatch, successes, source, name, stage
):
    scores(monkeypatch, [NOT_REACHED, REACHED, 15, (20, 30.0)])
    acted = []

    def gather(context, work, folder, actor, *, trials, seed, source, wanted, **options):
        stored = EpisodeFolder(folder, wanted)
        if not stored.tried:
            acted.append((source, seed, actor._explore))
            stored.add(range(2), [replace(one, source=source) for one in successes])
        return stored.load(), stored.tried

    monkeypatch.setattr(collect, "gather", gather)
    config = replace(CONFIG, ppo=replace(CONFIG.ppo, score_episodes=20))
    context = start(tmp_path / "run", placeholder_scene, config)
    run(context, "bc", "ppo", "collect", "quality")
    assert list(context.run.result("quality")) == ["demonstrator", "ppo", "change"]
    [found] = find_episode_files(context.run.folder)
    assert found.policy["actor"] == "ppo" and found.policy["against_clone"]["length"]["difference"] == -20.0
    expert = [path.read_bytes() for path in sorted((context.run.folder / "collect/episodes").iterdir())]

    other = replace(config, task=placeholder_scene.task.id, collect=replace(config.collect, source=source))
    context.run = with_config(context.run, other, print)
    with pytest.raises(UserError, match=f"has no episodes of {source} yet; run `rlgen run collect"):
        find_episode_files(context.run.folder)
    run(context, "collect")
    assert [path.read_bytes() for path in sorted((context.run.folder / "collect/episodes").iterdir())] == expert
    assert acted == [("ppo", acted[0][1], False), (name, acted[0][1], source == "exploring")]
    [found] = find_episode_files(context.run.folder)
    assert [episode.source for _, episode in found.read()] == [name, name]
    assert found.policy["actor"] == name and found.policy["checkpoint"].startswith(stage)
    assert "against_clone" not in found.policy
    context.run.clear("quality")
    run(context, "quality")
    assert list(context.run.result("quality")) == ["demonstrator", "ppo", name, "change"]
    check_contents(context.run.folder, RUN)
    # Back again: nothing is run, and nothing lost.
    context.run = with_config(context.run, replace(other, collect=config.collect), print)
    run(context, "collect")
    assert context.run.result("collect")["source"] == "ppo" and len(acted) == 2
    check_dataset(context, 2)
    with pytest.raises(UserError, match=r"collect\.episodes"):
        check_config(context.run, replace(other, collect=replace(other.collect, episodes=3)))


def test_the_control_needs_no_ppo(tmp_path, placeholder_scene, monkeypatch, successes):
    scores(monkeypatch, [NOT_REACHED])
    monkeypatch.setattr(collect, "gather", lambda context, work, folder, *_, **__: _stored(folder, successes))
    config = replace(CONFIG, collect=replace(CONFIG.collect, source="clone"))
    context = start(tmp_path / "run", placeholder_scene, config)
    run(context, "bc", "collect", "export", "quality")
    assert list(context.run.result("quality")) == ["demonstrator", "bc"]
    assert len(open_dataset(dataset_folder(context))) == 2


def _stored(folder, episodes):
    stored = EpisodeFolder(folder, len(episodes))
    stored.add(range(len(episodes)), episodes)
    return stored.load(), stored.tried


def test_a_clone_without_success_says_how_it_goes_on(tmp_path, placeholder_scene, monkeypatch, successes):
    scores(monkeypatch, [NOT_REACHED, REACHED])
    failed = [replace(one, success=False, rewards=np.zeros_like(one.rewards)) for one in successes]
    expert_runs(monkeypatch, failed)
    config = replace(CONFIG, collect=replace(CONFIG.collect, source="clone"))
    context = start(tmp_path / "run", placeholder_scene, config)
    run(context, "bc", "ppo")
    with pytest.raises(UserError, match="the clone succeeded in none of 2 episodes") as caught:
        run(context, "collect")
    steps = str(2 * CONFIG.bc.optimizer_steps)
    expected = ["run", "bc", "--run", str(context.run.folder), "--overwrite", "--bc.optimizer-steps", steps]
    assert command_in(caught.value) == expected


def test_without_an_iteration_the_policy_is_the_cloned_one(tmp_path, placeholder_scene, monkeypatch, successes):
    scores(monkeypatch, [NOT_REACHED, REACHED])
    expert_runs(monkeypatch, successes)
    context = start(tmp_path / "run", placeholder_scene, CONFIG)
    run(context, "bc", "ppo")
    cloned, trained = bc.load_policy(context)[1], ppo.load_policy(context)[1]
    jax.tree.map(np.testing.assert_array_equal, trained["net"], cloned["net"])
    # As runs of earlier versions are, which left no checkpoint then.
    shutil.rmtree(context.run.folder / "ppo" / "checkpoints")
    record = context.run.folder / "ppo" / "done.json"
    record.write_text(json.dumps(context.run.result("ppo") | {"checkpoint": None}))
    assert context.run.result("ppo")["control_steps"] == 0
    again = ppo.load_policy(context)[1]
    jax.tree.map(np.testing.assert_array_equal, again, trained)
    check_dataset(context, 2)
    [source] = find_episode_files(context.run.folder)
    assert source.policy["checkpoint"] == "bc/checkpoints/4"


def test_a_run_without_an_iteration_of_ppo_has_its_report(tmp_path, placeholder_scene, monkeypatch, successes):
    scores(monkeypatch, [NOT_REACHED, REACHED])
    expert_runs(monkeypatch, successes)
    context = start(tmp_path / "run", placeholder_scene, CONFIG)
    context.run.finish("demos", {"episodes": 2, "tried": 2, "mean_length": 20.0})
    run(context, "bc", "ppo", "collect", "export", "quality")
    # As after the two stages that do not read what PPO decided.
    Metrics(context.run.stage_folder("vla-train") / "metrics.jsonl", keep=0).write(1, loss=0.5)
    context.run.finish("vla-train", {"steps": 1, "parameters": 1})
    rates = {name: SuccessRate(1, 2).to_json() for name in ("bc", "ppo", "vla")}
    context.run.stage_folder("evaluate")
    context.run.finish("evaluate", {"rates": rates, "protocol": {}})
    run(context, "report")
    assert "0 iterations, 0 control steps" in (context.run.folder / "report.html").read_text()
    check_contents(context.run.folder, RUN)


def test_a_lost_checkpoint_of_a_trained_policy_is_not_taken_for_the_cloned_one(
    tmp_path, placeholder_scene, monkeypatch
):
    scores(monkeypatch, [NOT_REACHED, NOT_REACHED, REACHED])
    context = start(tmp_path / "run", placeholder_scene, CONFIG)
    run(context, "bc", "ppo")
    shutil.rmtree(context.run.folder / "ppo" / "checkpoints")
    with pytest.raises(UserError, match="no checkpoint in"):
        ppo.load_policy(context)


def command_in(error: UserError) -> list[str]:
    """The command that a message says, without `rlgen`."""
    assert "\n" not in str(error)
    [command] = re.findall(r"`rlgen ([^`]*)`", str(error))
    return shlex.split(command)


@pytest.mark.parametrize("iteration", [0, 1])
def test_a_training_that_broke_off_says_how_it_goes_on(
    tmp_path, placeholder_scene, placeholder_assets, cache, monkeypatch, successes, iteration
):
    scores(monkeypatch, [NOT_REACHED, 0, 0, 0, REACHED])
    expert_runs(monkeypatch, successes)
    context = start(tmp_path / "run", placeholder_scene, CONFIG)
    context.run.assets["path"] = str(placeholder_assets.path)
    change_config(context.run, context.run.config)
    run(context, "bc")
    with monkeypatch.context() as patch:
        fail_in(patch, iteration)
        with pytest.raises(UserError, match=f"the last good checkpoint is iteration {iteration}") as caught:
            run(context, "ppo")
    with pytest.raises(UserError, match=r"stage ppo of .* is not done; run `rlgen run ppo"):
        run(context, "collect")
    monkeypatch.setenv("RLGEN_CACHE", str(cache))
    main(command_in(caught.value))
    again = open_run(context.run.folder)
    assert again.config.ppo.actor_learning_rate == pytest.approx(CONFIG.ppo.actor_learning_rate / 3, rel=0.2)
    context.run = again
    check_dataset(context, 2)


def test_cloning_that_broke_off_says_how_it_goes_on(tmp_path, placeholder_scene, monkeypatch):
    context = start(tmp_path / "run", placeholder_scene, CONFIG)
    monkeypatch.setattr(bc.bc, "train_steps", lambda policy, config, state, data, count, mesh: (
        state.replace(step=state.step + count), {"loss": np.nan, "grad_norm": 1.0}
    ))  # fmt: skip
    with pytest.raises(UserError, match="the BC loss is nan at step 4") as caught:
        run(context, "bc")
    command = f"run bc --run {context.run.folder} --overwrite --bc.learning-rate 0.0001"
    assert command_in(caught.value) == command.split()


def test_fewer_successes_than_wanted_make_a_smaller_dataset(tmp_path, placeholder_scene, monkeypatch, successes):
    scores(monkeypatch, [NOT_REACHED, REACHED])
    failed = replace(successes[1], success=False, rewards=np.zeros_like(successes[1].rewards))
    expert_runs(monkeypatch, [successes[0], failed])
    context = start(tmp_path / "run", placeholder_scene, CONFIG)
    run(context, "bc", "ppo")
    check_dataset(context, 1)
    assert context.run.result("collect")["tried"] == 2
    run(context, "quality")
    assert context.run.result("quality")["ppo"]["episodes"] == 1


def test_no_success_at_all_is_one_line_that_says_how_it_goes_on(tmp_path, placeholder_scene, monkeypatch, successes):
    scores(monkeypatch, [NOT_REACHED, REACHED])
    failed = [replace(one, success=False, rewards=np.zeros_like(one.rewards)) for one in successes]
    expert_runs(monkeypatch, failed)
    context = start(tmp_path / "run", placeholder_scene, CONFIG)
    run(context, "bc", "ppo")
    for _ in range(2):
        with pytest.raises(UserError, match="succeeded in none of 2 episodes") as caught:
            run(context, "collect")
    expected = ["run", "ppo", "--run", str(context.run.folder), "--overwrite", "--ppo.iterations", "8"]
    assert command_in(caught.value) == expected
    with pytest.raises(UserError, match=r"stage collect of .* is not done; run `rlgen run collect"):
        run(context, "export")


def test_episodes_that_cannot_be_exported_are_one_line_that_says_what_helps(
    tmp_path, placeholder_scene, monkeypatch, successes
):
    scores(monkeypatch, [NOT_REACHED, REACHED])
    still = np.zeros_like(successes[0].actions) + 0.01
    expert_runs(monkeypatch, [replace(successes[0], actions=still)])
    context = start(tmp_path / "run", placeholder_scene, CONFIG)
    run(context, "bc", "ppo", "collect")
    with pytest.raises(UserError, match=r"none of 1 episodes can be exported: .*; collect or record others"):
        run(context, "export")
    assert not context.run.done("export")


def test_a_stage_that_failed_at_once_has_not_started(tmp_path, placeholder_scene):
    config = replace(CONFIG, demos=replace(CONFIG.demos, file=str(tmp_path / "absent.hdf5")))
    context = start(tmp_path / "run", placeholder_scene, config)
    shutil.rmtree(context.run.folder / "demos")
    with pytest.raises(UserError, match=r"absent\.hdf5"):
        run(context, "demos")
    assert not context.run.started("demos")


def test_the_scripted_expert_is_evaluated_as_it_demonstrated(monkeypatch):
    monkeypatch.setattr(demos_stage, "ScriptedExpert", lambda scene, **options: options)
    for demos in (DemosConfig(clean=True, habits=False), DemosConfig(styles=2)):
        context = SimpleNamespace(scene=None, run=SimpleNamespace(config=Config(demos=demos)))
        manner = {name: getattr(demos, name) for name in ("clean", "habits", "styles")}
        assert evaluate.make_actor(context, "demonstrator") == {**manner, "tries": None}
