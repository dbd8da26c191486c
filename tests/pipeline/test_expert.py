"""Cloning and PPO of one task as stages: where they stop, what they leave, and what a fault costs."""

import json
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
from jax.sharding import Mesh
from rl.device_worlds import PointWorld

from rlgen.configs.presets import expert_presets, fit_to
from rlgen.configs.schema import BCConfig, Config, CriticConfig, DiffusionConfig, PolicyConfig, PPOConfig
from rlgen.core.errors import UserError
from rlgen.core.ownership import check_contents
from rlgen.core.progress import Progress
from rlgen.core.types import Episode
from rlgen.data.formats.hdf5.writer import write_demos
from rlgen.data.metrics.score import make_score
from rlgen.libero.envs.image_observer import observe_vector
from rlgen.libero.envs.observations import Observer, observation_size
from rlgen.libero.scenes.demo_info import demo_file_info
from rlgen.libero.warp.device import why_absent
from rlgen.pipeline import bc, ppo
from rlgen.pipeline import policy as policy_module
from rlgen.pipeline.context import Context, run_stages
from rlgen.pipeline.stages import RUN
from rlgen.rl import ppo as rl_ppo
from rlgen.rl.numerics import NonFiniteError
from rlgen.rl.train_state import policy_params
from rlgen.training.checkpoints import digest
from rlgen.training.metrics import read_metrics
from rlgen.training.run import create_run

CONFIG = Config(
    policy=PolicyConfig(
        network="mlp",
        mlp_widths=(16,),
        critic=CriticConfig(widths=(16,)),
        diffusion=DiffusionConfig(denoising_steps=2),
    ),
    bc=BCConfig(episodes=2, optimizer_steps=12, batch=8, warmup=1, stop_success=0.5, check_every=4, check_episodes=20),
    ppo=PPOConfig(
        iterations=4,
        environments=2,
        chunks=2,
        epochs=1,
        batch=8,
        evaluate_every=1,
        evaluate_episodes=20,
        target=0.9,
        target_low=0.7,
    ),
)


def start(folder, scene, config: Config = CONFIG) -> Context:
    """A run with demonstrations of a hand that trembles."""
    run = create_run(folder, replace(config, task=scene.task.id), {"kind": "placeholder", "path": "", "label": "x"})
    context = Context(run, folder)
    context.__dict__["scene"] = scene  # what loading it would give
    random = np.random.default_rng(0)
    episodes = [_episode(scene, random, number) for number in range(2)]
    robots = [Observer(scene)(episode.states).robot for episode in episodes]
    write_demos(run.stage_folder("demos") / "demos.hdf5", episodes, robots, demo_file_info(scene))
    run.finish("demos", {})
    return context


def _episode(scene, random, number: int) -> Episode:
    actions = random.uniform(-1, 1, (20, 7)).astype(np.float32)
    states = np.tile(scene.stored_states[number], (21, 1))
    rewards = np.r_[np.zeros(19), 1].astype(np.float32)
    start = scene.stored_states[number]
    return Episode(scene.task.id, scene.task.prompt, "scripted", number, "heldout", 0, start, states,
                   actions, rewards, True)  # fmt: skip


def scores(monkeypatch, successes):
    """Evaluations return what is given here, one after the other: successes of 20, or these and their length."""
    left = list(successes)

    def measure(*_, **__):
        given = left.pop(0)
        count, length = given if isinstance(given, tuple) else (given, 50.0)
        return make_score(np.array([[1.0, length, 9.0, 0.0]] * count + [[0.0] * 4] * (20 - count)))

    monkeypatch.setattr(bc, "measure", measure)
    monkeypatch.setattr(ppo, "measure", measure)


def run(context: Context, *stages: str) -> None:
    run_stages(context, stages, Progress(stages))


def test_cloning_stops_at_a_rate_and_ppo_where_rate_and_interval_are_reached(tmp_path, placeholder_scene, monkeypatch):
    # 18 of 20 reaches 90 %, but its interval begins at 69.9 %.
    scores(monkeypatch, [4, 11, 11, 18, 19])
    context = start(tmp_path / "run", placeholder_scene)
    run(context, "bc", "ppo")
    cloned, trained = context.run.result("bc"), context.run.result("ppo")
    assert cloned["steps"] == 8 and cloned["stopped"]["successes"] == 11
    assert trained["iterations"] == 2
    assert (trained["first"]["successes"], trained["last"]["successes"]) == (11, 19)
    lines = read_metrics(tmp_path / "run/ppo/metrics.jsonl")
    assert [line["step"] for line in lines] == [0, 1, 2]
    for name in ("environment", "sampler", "update", "waiting"):
        assert all(line[f"seconds_{name}"] >= 0 for line in lines[1:])
    assert list((tmp_path / "run/ppo/tensorboard").glob("events.out.tfevents*"))
    policy, params = ppo.load_policy(context)
    assert policy.num_trained_steps == 2 and all(np.isfinite(leaf).all() for leaf in _leaves(params))


def test_corrections_are_cloned_and_an_interrupted_round_leads_to_the_same_bits(
    tmp_path, placeholder_scene, monkeypatch
):
    # 19 of 20 trials of the scripted expert succeed; two are enough to see that what it did counts.
    cloning = replace(CONFIG.bc, stop_success=None, correction_rounds=1, correction_episodes=2)
    ends, train_steps, trained = {}, bc.bc.train_steps, []

    def stop_after_the_round(policy, config, state, data, count, mesh):
        trained.append(len(data.chunk))
        if interrupt and int(state.step) == 6:
            raise KeyboardInterrupt
        return train_steps(policy, config, state, data, count, mesh)

    monkeypatch.setattr(bc.bc, "train_steps", stop_after_the_round)
    for name in ("unbroken", "broken"):
        context = start(tmp_path / name, placeholder_scene, replace(CONFIG, bc=cloning))
        interrupt = name == "broken"
        if interrupt:
            with pytest.raises(KeyboardInterrupt):
                run(context, "bc")
            # What was recorded is read, and not recorded again.
            monkeypatch.setattr(bc.Takeover, "__call__", Mock(side_effect=AssertionError))
            interrupt = False
        run(context, "bc")
        ends[name] = digest(bc.load_policy(context)[1]["net"])
        assert context.run.result("bc")["chunks"] == trained[-1] > trained[0] == 40
    assert ends["unbroken"] == ends["broken"]


def test_rounds_of_corrections_end_with_a_clone_that_succeeds_with_noise(tmp_path, placeholder_scene, monkeypatch):
    cloning = replace(CONFIG.bc, stop_success=None, correction_rounds=3, correction_episodes=2, correction_target=0.9)
    asked, rounds, rates, interrupt = [], [], [17, 19], [True]

    def measure(*_, offset, explore, seed, **__):
        asked.append((offset, explore))
        count = rates[len(asked) - 1]
        return make_score(np.array([[1.0, 50.0, 9.0, 0.0]] * count + [[0.0] * 4] * (20 - count)))

    def with_corrections(context, work, policy, state, known, number, expert):
        rounds.append(number)
        return known

    def train_steps(policy, config, state, data, count, mesh):
        if interrupt and len(asked) == 2:
            interrupt.clear()
            raise KeyboardInterrupt
        return real(policy, config, state, data, count, mesh)

    real = bc.bc.train_steps
    monkeypatch.setattr(bc, "measure", measure)
    monkeypatch.setattr(bc, "_with_corrections", with_corrections)
    monkeypatch.setattr(bc.bc, "train_steps", train_steps)
    context = start(tmp_path / "run", placeholder_scene, replace(CONFIG, bc=cloning))
    with pytest.raises(KeyboardInterrupt):
        run(context, "bc")
    run(context, "bc")
    # The second check is enough, is not repeated by the resumed stage, and the third round is not looked at.
    assert asked == [(0, True), (2, True)]
    assert rounds in ([0, 0], [0])
    assert context.run.result("bc")["steps"] == cloning.optimizer_steps


def test_a_policy_sees_where_all_objects_are_if_it_is_to(tmp_path, placeholder_assets, placeholder_scene, cache):
    record = {"kind": "placeholder", "path": str(placeholder_assets.path), "label": "x"}
    sizes = {}
    for objects in ("goal", "all"):
        config = replace(CONFIG, task=placeholder_scene.task.id, policy=replace(CONFIG.policy, objects=objects))
        context = Context(create_run(tmp_path / objects, config, record), cache)
        sizes[objects] = policy_module.make_policy(config, context.scene).observation_size
        assert Observer(context.scene)(context.scene.training_states[:1]).vector.shape == (1, sizes[objects])
    assert sizes == {
        "goal": 31,
        "all": 31 + 3 * (len(placeholder_scene.object_names) - 1 + len(placeholder_scene.fixture_bodies)),
    }


def test_with_a_plateau_a_good_clone_is_polished_and_scored_at_the_end(tmp_path, placeholder_scene, monkeypatch):
    # One check of the clone, four evaluations of PPO, and the final scores of both.
    scores(monkeypatch, [11, (20, 50.0), (20, 40.0), (19, 41.0), (20, 39.5), (15, 60.0), (20, 30.0)])
    config = replace(CONFIG, ppo=replace(CONFIG.ppo, iterations=9, plateau=2, score_episodes=20))
    context = start(tmp_path / "run", placeholder_scene, config)
    run(context, "bc", "ppo")
    result = context.run.result("ppo")
    assert (result["iterations"], result["ended"]) == (3, "plateau")
    assert (result["first"]["length"], result["last"]["length"]) == (50.0, 39.5)
    assert (result["heldout"]["bc"]["successes"], result["heldout"]["ppo"]["length"]) == (15, 30.0)
    change = result["change"]
    assert change["success"]["difference"] == 0.25 and change["success"]["trials"] == 20
    assert (change["length"]["difference"], change["length"]["trials"]) == (-30.0, 15)
    lines = read_metrics(tmp_path / "run/ppo/metrics.jsonl")
    assert result["exploration"] == {"first": lines[1]["success"], "last": lines[-1]["success"]}
    assert lines[0]["test"]["mean_squared_jerk"] == 9.0


def test_what_misses_the_target_has_another_round_and_ends_with_the_one_that_reaches_it(
    tmp_path, placeholder_scene, monkeypatch
):
    scores(monkeypatch, [11, 10, 12, 20])
    changed = {"iterations": 2, "rounds": 3, "evaluate_every": 2, "plateau": 0, "min_iterations": 2}
    context = start(tmp_path / "run", placeholder_scene, replace(CONFIG, ppo=replace(CONFIG.ppo, **changed)))
    run(context, "bc", "ppo")
    result = context.run.result("ppo")
    assert (result["iterations"], result["ended"], result["last"]["successes"]) == (4, "iterations", 20)
    tests = {line["step"]: line["test"]["successes"] for line in read_metrics(tmp_path / "run/ppo/metrics.jsonl")
             if "test" in line}  # fmt: skip
    assert tests == {0: 10, 2: 12, 4: 20}


def test_the_expert_is_the_last_policy_at_the_target_though_training_was_interrupted_after_it(
    tmp_path, placeholder_scene, monkeypatch
):
    changed = {"iterations": 3, "plateau": 2, "min_iterations": 1, "score_episodes": 20}
    config = replace(CONFIG, ppo=replace(CONFIG.ppo, **changed))
    context = start(tmp_path / "run", placeholder_scene, config)
    scores(monkeypatch, [11, 10, 12, 19])
    saved, stops, save = {}, [2], ppo.Checkpoints.save

    def save_or_stop(self, step, state, metadata):
        if self.folder.name == "checkpoints" and step in stops:
            stops.remove(step)
            raise KeyboardInterrupt
        save(self, step, state, metadata)
        saved[step] = digest(policy_params(state)["net"]) if self.folder.parent.name == "ppo" else None

    monkeypatch.setattr(ppo.Checkpoints, "save", save_or_stop)
    with pytest.raises(KeyboardInterrupt):
        run(context, "bc", "ppo")
    assert [path.name for path in (tmp_path / "run/ppo/expert").iterdir() if path.name.isdigit()] == ["2"]
    scores(monkeypatch, [19, 13, 15, 18])
    run(context, "bc", "ppo")
    result = context.run.result("ppo")
    assert (result["iterations"], result["checkpoint"], result["last"]["successes"]) == (3, "expert/2", 19)
    check_contents(context.run.folder, RUN)
    assert digest(ppo.load_policy(context)[1]["net"]) == saved[2] != saved[3]


def test_evaluations_that_decide_are_of_training_placements_and_fresh(tmp_path, placeholder_scene, monkeypatch):
    asked = []

    def measure(*_, split, offset=0, episodes, seed, **__):
        asked.append((split, offset, episodes, seed))
        return make_score(np.zeros((20, 4)))

    monkeypatch.setattr(ppo, "measure", measure)
    config = replace(CONFIG, bc=replace(CONFIG.bc, stop_success=None, optimizer_steps=2))
    config = replace(config, ppo=replace(CONFIG.ppo, iterations=3, evaluate_every=2, score_episodes=7))
    context = start(tmp_path / "run", placeholder_scene, config)
    run(context, "bc", "ppo")
    *tests, cloned, trained = asked
    assert [test[:3] for test in tests] == [("train", 0, 20), ("train", 20, 20), ("train", 40, 20)]
    assert len({test[3] for test in tests}) == 3
    assert cloned == trained and cloned[:3] == ("heldout", 0, 7)


def test_ppo_runs_in_the_chosen_world_and_evaluates_on_the_cpu(tmp_path, placeholder_scene, monkeypatch):
    """On an accelerator an iteration is one program; scores are those of exact physics all the same."""
    chosen, scored = [], []

    def make_world(scene, count, world, image_size, **options):
        chosen.append((scene, count, world, image_size))
        return PointWorld(count, size=observation_size(scene)), observe_vector

    def measure(*_, split, source, **__):
        scored.append((split, source))
        return make_score(np.zeros((20, 4)))

    monkeypatch.setattr(ppo, "make_training_world", make_world)
    monkeypatch.setattr(policy_module, "load_warp", lambda: None)
    monkeypatch.setattr(ppo, "measure", measure)
    config = replace(CONFIG, bc=replace(CONFIG.bc, stop_success=None, optimizer_steps=2))
    config = replace(config, fixtures="fixed", ppo=replace(CONFIG.ppo, world="warp", iterations=1, critic_warmup=0))
    context = start(tmp_path / "run", placeholder_scene, config)
    run(context, "bc", "ppo")
    assert chosen == [(placeholder_scene, 2, "warp", None)] and scored == [("train", "ppo")] * 2
    [_, line] = read_metrics(tmp_path / "run/ppo/metrics.jsonl")
    assert line["seconds_program"] == line["seconds_accelerator"] <= line["seconds_total"]
    assert "seconds_sampler" not in line and line["control_steps"] > 0


@pytest.mark.skipif(why_absent() is None, reason="MuJoCo Warp is installed")
def test_a_world_that_is_not_installed_is_named_before_cloning(tmp_path, placeholder_scene):
    config = replace(CONFIG, fixtures="fixed", ppo=replace(CONFIG.ppo, world="warp"))
    context = start(tmp_path / "run", placeholder_scene, config)
    with pytest.raises(UserError, match=r"^MuJoCo Warp cannot be used: .*`pip install") as raised:
        run(context, "bc")
    assert "\n" not in str(raised.value)


def test_a_world_on_one_accelerator_is_not_divided(placeholder_scene, monkeypatch):
    monkeypatch.setattr(policy_module, "load_warp", lambda: None)
    config = replace(CONFIG, fixtures="fixed", ppo=replace(CONFIG.ppo, world="warp"))
    policy = policy_module.make_policy(config, placeholder_scene)
    with pytest.raises(UserError, match=r"^ppo\.world warp on 8 devices: expected 1"):
        policy_module.check_devices(policy, config, Mock(spec=Mesh, size=8))


def _leaves(params):
    import jax

    return jax.tree.leaves(params)


def test_a_fault_costs_an_iteration_and_the_same_command_goes_on(tmp_path, placeholder_scene, monkeypatch):
    config = replace(CONFIG, ppo=replace(CONFIG.ppo, target=None, iterations=3, evaluate_every=9))
    iterate, ends = rl_ppo.iterate, {}
    for name in ("unbroken", "broken"):
        scores(monkeypatch, [11] * 9)
        context = start(tmp_path / name, placeholder_scene, config)
        run(context, "bc")
        if name == "broken":

            def fail(policy, critic, config, state, *rest):
                if int(state.iteration) == 2:
                    raise NonFiniteError("value_loss")
                return iterate(policy, critic, config, state, *rest)

            monkeypatch.setattr(rl_ppo, "iterate", fail)
            with pytest.raises(UserError) as raised:
                run(context, "ppo")
            message = str(raised.value)
            assert "iteration 3: first value_loss is not finite" in message and "\n" not in message
            assert "last good checkpoint is iteration 2" in message and not context.run.done("ppo")
            monkeypatch.setattr(rl_ppo, "iterate", iterate)
        run(context, "ppo")
        ends[name] = digest(ppo.load_policy(context)[1]["net"])
        assert context.run.result("ppo")["iterations"] == 3
    assert ends["broken"] == ends["unbroken"]


def test_ended_in_the_first_iteration_the_cloned_policy_is_scored_once(tmp_path, placeholder_scene, monkeypatch):
    scores(monkeypatch, [11, 12, 13])
    config = replace(CONFIG, ppo=replace(CONFIG.ppo, target=None, iterations=1, critic_warmup=0, evaluate_every=9))
    context = start(tmp_path / "run", placeholder_scene, config)
    run(context, "bc")

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rl_ppo, "iterate", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(context, "ppo")
    run(context, "ppo")
    lines = read_metrics(tmp_path / "run/ppo/metrics.jsonl")
    assert [(line["step"], line["test"]["successes"]) for line in lines] == [(0, 12), (1, 13)]


@pytest.mark.parametrize("name", sorted(expert_presets()))
def test_presets_are_whole_and_fit_a_task(name):
    from rlgen.configs.stored import from_json, to_json

    config = fit_to(expert_presets()[name], 220)
    assert from_json(json.loads(json.dumps(to_json(config)))) == config
    action_steps = config.ppo.action_steps or config.policy.horizon
    assert config.ppo.chunks * action_steps >= 220 > (config.ppo.chunks - 1) * action_steps


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bc": {"stop_success": 1.5}}, "1.5"),
        ({"ppo": {"target": 0.0}}, "target 0.0"),
        ({"ppo": {"action_steps": 9}}, "9 of a chunk of 8"),
    ],
)
def test_contradictions_are_one_line(change, words):
    with pytest.raises(UserError, match=words):
        replace(CONFIG, **{name: replace(getattr(CONFIG, name), **fields) for name, fields in change.items()})
