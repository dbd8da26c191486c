"""The stage `ppo`: PPO from the cloned policy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from rlgen.configs.schema import PPOConfig
from rlgen.configs.stored import to_json
from rlgen.core.errors import UserError
from rlgen.data.metrics.score import ScoreSummary, change
from rlgen.libero.envs.image_observer import ImageObserver
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.envs.worlds import make_training_world
from rlgen.pipeline import bc
from rlgen.pipeline.context import Context, Turns, Work
from rlgen.pipeline.policy import AnyPolicy, check_devices, image_size, measure
from rlgen.policies.base import Params
from rlgen.policies.critic import Critic, make_critic
from rlgen.rl.ending import expert_iteration, why_ended
from rlgen.rl.numerics import NonFiniteError
from rlgen.rl.ppo import Expert
from rlgen.rl.rollout import environments_here
from rlgen.rl.train_state import PPOState, init_state, policy_params
from rlgen.training.checkpoints import Checkpoints
from rlgen.training.metrics import EventWriter, Metrics, Sink, WandbLog, read_metrics
from rlgen.training.sharding import place_state, replicate, restore_target

# Folders of the training's checkpoints, and of the last policy that was seen at the target.
CHECKPOINTS, EXPERT = "checkpoints", "expert"
_ENDS = {
    "target": "the target is reached",
    "plateau": "the target is reached, and successes get neither shorter nor smoother",
    "iterations": "the last one",
}


def run(context: Context, work: Work) -> Turns[dict[str, Any]]:
    """Trains until `why_ended`, with a checkpoint before and after each iteration, and scores the expert.

    A generator, which leaves the iterations to its caller: see `pipeline.context.Turns`.

    Raises:
      UserError: something is not finite or explodes; the last good checkpoint stays.
    """
    config, workers = context.run.config.ppo, context.run.config.workers
    policy, params = bc.load_policy(context)
    critic, mesh, is_first = make_critic(policy), context.mesh, context.devices.is_first
    check_devices(policy, context.run.config, mesh)
    state = _start(context, policy, critic, params)
    here = len(environments_here(config, config.environments, mesh))
    options = {"renderer": context.run.config.policy.image_encoder.renderer, "threads": workers, "pool": context.pool}
    env, observe = make_training_world(context.scene, here, config.world, image_size(policy), **options)
    with Checkpoints(work.folder / CHECKPOINTS) as checkpoints:
        if checkpoints.latest() is not None:
            state, _ = checkpoints.restore(restore_target(mesh, state))
        else:
            # What comes after PPO needs a policy even where the cloned one reaches the target.
            checkpoints.save(0, state, _metadata(context))
        iteration = int(state.iteration)
        metrics = _metrics(context, work, iteration) if is_first else None
        work.progress.total = _round_end(config, iteration)
        work.progress.update(advance=iteration)
        what = "sampler and update (about 30 s" if config.world == "cpu" else "kernels and iteration (minutes"
        work.progress.log(f"compiling {what}, in the first iterations)")
        tests = _tests(work, iteration)
        if not tests and iteration == 0:
            _evaluate(context, work, policy, state, tests)
            if metrics is not None:
                metrics.write(
                    0, control_steps=0, success=tests[0].rate.rate, clip_fraction=0.0, test=tests[0].to_json()
                )
        note = "first iteration"
        while (ended := why_ended(config, tests, iteration)) is None:
            work.progress.total = _round_end(config, iteration)
            on_chunk = _on_chunk(work, note, config.chunks)
            try:
                state, values = yield Expert(policy, critic, config, state, env, context.seed("ppo"), on_chunk, observe)
            except NonFiniteError as error:
                raise _user_error(error, iteration, context) from None
            iteration, test = int(state.iteration), {}
            note = _note(values)
            if 0 in (iteration % config.evaluate_every, iteration % config.iterations):
                _evaluate(context, work, policy, state, tests)
                test = {"test": tests[iteration].to_json()}
                where = "stored initial states" if config.evaluate_split == "heldout" else "training reset states"
                work.progress.log(f"iteration {iteration}: without noise {tests[iteration]} from {where}")
            if metrics is not None:
                metrics.write(iteration, **values, **test)
            work.progress.update(advance=1, note=note)
            checkpoints.save(iteration, state, _metadata(context))
            if is_first:
                work.clock.save()
    for part in (env, observe):
        if isinstance(part, VectorEnv | ImageObserver):
            part.close()
    work.progress.log(f"ended after {iteration} iterations: {_ENDS[ended]}")
    expert = expert_iteration(config, tests)
    expert = iteration if expert is None else expert
    kept = CHECKPOINTS if expert == iteration else EXPERT
    trained = policy_params(_read(context, work.folder / kept, state))
    return {
        "iterations": iteration,
        "checkpoint": f"{kept}/{expert}",
        "control_steps": int(state.control_steps),
        "algorithm": context.run.config.policy.algorithm,
        "ended": ended,
        "split": config.evaluate_split,
        "first": next((test.to_json() for test in tests.values()), None),
        "last": tests[expert].to_json() if expert in tests else None,
        "exploration": _exploration(work),
        **_final_scores(context, work, policy, params, trained),
    }


def load_policy(context: Context) -> tuple[AnyPolicy, Params]:
    """Returns the trained policy of a run, and its parameters."""
    result, folder = context.run.result("ppo"), context.run.folder / "ppo"
    policy, params = bc.load_policy(context)
    state = _start(context, policy, make_critic(policy), params)
    # Earlier versions do not say which: the newest, or none where the cloned policy reached the target.
    stored = result.get("checkpoint")
    kept = CHECKPOINTS if stored is None else Path(stored).parts[0]
    can_lack = stored is None and result.get("iterations") == 0
    return policy, policy_params(_read(context, folder / kept, state, can_lack))


def _read(context: Context, folder: Path, blank: PPOState, can_lack: bool = False) -> PPOState:
    """Reads the expert's checkpoint, the newest one of its folder; `blank` where there may be none and is none."""
    with Checkpoints(folder) as checkpoints:
        if can_lack and checkpoints.latest() is None:
            return blank
        return checkpoints.restore(restore_target(context.mesh, blank))[0]


def _evaluate(context: Context, work: Work, policy: AnyPolicy, state: PPOState, tests: dict[int, ScoreSummary]) -> None:
    """Adds an evaluation to those before, and keeps what is the expert so far beside the checkpoints."""
    iteration = int(state.iteration)
    tests[iteration] = _test(context, policy, policy_params(state), iteration, _on_chunk(work, "evaluation"))
    if expert_iteration(context.run.config.ppo, tests) == iteration:
        with Checkpoints(work.folder / EXPERT, keep=1) as kept:
            # Where training was interrupted after it, it is there, and the same.
            if kept.latest() != iteration:
                kept.save(iteration, state, _metadata(context))


def _start(context: Context, policy: AnyPolicy, critic: Critic, params: Params) -> PPOState:
    key = jax.random.PRNGKey(context.seed("ppo"))
    start = jax.jit(lambda params: init_state(key, policy, critic, params, context.run.config.ppo))
    return place_state(context.mesh, start(params))


def _metadata(context: Context) -> dict[str, Any]:
    return {"stage": "ppo", "task": context.scene.task.id, "config": to_json(context.run.config)}


def _metrics(context: Context, work: Work, iteration: int) -> Metrics:
    """Opens the metrics up to `iteration`, from which TensorBoard's file is written anew; new lines go to both."""
    path = work.folder / "metrics.jsonl"
    events = EventWriter(work.folder / "tensorboard")
    sinks: list[Sink] = [events]
    config = context.run.config
    if config.wandb is not None:
        sinks.append(WandbLog(config.wandb, context.run.folder.resolve().name, to_json(config)))
    metrics = Metrics(path, keep=iteration, sinks=sinks)
    events.start(read_metrics(path))
    return metrics


def _tests(work: Work, iteration: int) -> dict[int, ScoreSummary]:
    """Returns the evaluations up to the iteration that is resumed from, by iteration."""
    lines = read_metrics(work.folder / "metrics.jsonl")
    return {line["step"]: ScoreSummary.from_json(line["test"]) for line in lines
            if "test" in line and line["step"] <= iteration}  # fmt: skip


def _test(
    context: Context, policy: AnyPolicy, params: Params, iteration: int, on_chunk: Callable[[int], None]
) -> ScoreSummary:
    """Scores the policy without noise; of training reset states every evaluation takes others than the one before."""
    config = context.run.config.ppo
    number = -(-iteration // config.evaluate_every)
    score = measure(
        context,
        policy,
        params,
        split="heldout" if config.evaluate_split == "heldout" else context.scene.training_split,
        episodes=config.evaluate_episodes,
        seed=context.seed("ppo-test", iteration),
        source="ppo",
        offset=number * config.evaluate_episodes if config.evaluate_split == "train" else 0,
        fixtures=context.scene.training_fixtures,
        on_chunk=on_chunk,
    )
    return score.summary()


def _round_end(config: PPOConfig, iteration: int) -> int:
    """Returns the last iteration of the round that goes on after an iteration."""
    return (iteration // config.iterations + 1) * config.iterations


def _exploration(work: Work) -> dict[str, float] | None:
    """Returns success with exploration noise in the first and the last iteration."""
    rates = [line["success"] for line in read_metrics(work.folder / "metrics.jsonl") if line["step"] > 0]
    return {"first": rates[0], "last": rates[-1]} if rates else None


def _final_scores(context: Context, work: Work, policy: AnyPolicy, cloned: Params, trained: Params) -> dict[str, Any]:
    """Scores clone and trained policy from the same stored initial states, which decided nothing before."""
    count = context.run.config.ppo.score_episodes
    if count == 0:
        return {}
    scores = {}
    for name, params in (("bc", replicate(context.mesh, cloned)), ("ppo", trained)):
        # The same seed for both: the same noise at the start of the chain, and fixtures in the same places.
        scores[name] = measure(
            context,
            policy,
            params,
            split="heldout",
            episodes=count,
            seed=context.seed("ppo-score"),
            source=name,
            fixtures="redraw",
            on_chunk=_on_chunk(work, f"final score of {name}"),
        )
        work.progress.log(f"stored initial states: {name} {scores[name].summary()}")
    return {
        "heldout": {name: score.summary().to_json() for name, score in scores.items()},
        "change": change(scores["bc"], scores["ppo"]),
    }


def _on_chunk(work: Work, note: str, chunks: int | None = None) -> Callable[[int], None]:
    """Returns a callback that shows the chunks of a rollout, or the active episodes of an evaluation."""

    def show(count: int) -> None:
        rest = f"chunk {count}/{chunks}" if chunks else f"{count} episodes still active"
        work.progress.update(advance=0, note=f"{note}; {rest}")

    return show


def _user_error(error: NonFiniteError, iteration: int, context: Context) -> UserError:
    actor, critic = context.run.config.ppo.actor_learning_rate, context.run.config.ppo.critic_learning_rate
    lower = (f"--ppo.actor-learning-rate {actor / 3:.1g}", f"--ppo.critic-learning-rate {critic / 3:.1g}")
    return UserError(
        f"PPO failed in iteration {iteration + 1}: first {error}; the last good checkpoint is iteration {iteration}",
        f"repeat it with lower rates: `{context.run.repeat('ppo', *lower)}`",
    )


def _note(values: dict[str, float]) -> str:
    named = {name: values.get(f"seconds_{name}", 0.0) for name in ("environment", "rendering", "sampler", "update")}
    # Nothing is rendered for a policy on vectors, and the parts of an iteration that is one program have no times.
    parts = "".join(f", {name} {seconds:.1f} s" for name, seconds in named.items() if seconds > 0.05)
    return (
        f"success with noise {values['success']:.2f}, clip fraction {values['clip_fraction']:.2f}{parts}, "
        f"in all {values['seconds_total']:.1f} s"
    )
