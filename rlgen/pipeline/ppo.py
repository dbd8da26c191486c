"""The stage `ppo`: PPO from the cloned policy."""

from collections.abc import Callable
from typing import Any

import jax

from rlgen.configs.schema import PPOConfig, to_json
from rlgen.core.errors import UserError
from rlgen.core.stats import SuccessRate
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.envs.worlds import make_training_world
from rlgen.pipeline import bc
from rlgen.pipeline.context import Context, Work
from rlgen.pipeline.policy import AnyPolicy, check_devices, image_size, measure
from rlgen.policies.base import Params
from rlgen.policies.critic import Critic, make_critic
from rlgen.rl import ppo
from rlgen.rl.numerics import NonFiniteError
from rlgen.rl.rollout import environments_here
from rlgen.rl.train_state import PPOState, init_state, policy_params
from rlgen.training.checkpoints import Checkpoints
from rlgen.training.metrics import EventWriter, Metrics, Sink, WandbLog, read_metrics
from rlgen.training.sharding import place_state, restore_target


def run(context: Context, work: Work) -> dict[str, Any]:
    """Trains `ppo.iterations` iterations, or until `ppo.target` is reached, with a checkpoint before and after each.

    Raises:
      UserError: something is not finite or explodes; the last good checkpoint stays.
    """
    config, workers = context.run.config.ppo, context.run.config.workers
    policy, params = bc.load_policy(context)
    critic, mesh, is_first = make_critic(policy), context.mesh, context.devices.is_first
    check_devices(policy, context.run.config, mesh)
    state = _start(context, policy, critic, params)
    here = len(environments_here(config, config.environments, mesh))
    options = {"renderer": context.run.config.policy.image_encoder.renderer, "threads": workers}
    env, observe = make_training_world(context.scene, here, config.world, image_size(policy), **options)
    with Checkpoints(work.folder / "checkpoints") as checkpoints:
        if checkpoints.latest() is not None:
            state, _ = checkpoints.restore(restore_target(mesh, state))
        else:
            # What comes after PPO needs a policy even where the cloned one reaches the target.
            checkpoints.save(0, state, _metadata(context))
        iteration = int(state.iteration)
        metrics = _metrics(context, work, iteration) if is_first else None
        work.progress.total = config.iterations
        work.progress.update(advance=iteration)
        what = "sampler and update (about 30 s" if config.world == "cpu" else "kernels and iteration (minutes"
        work.progress.log(f"compiling {what}, in the first iterations)")
        test = _last_test(work, iteration)
        if test is None and iteration == 0:
            test = _test(context, policy, policy_params(state), 0, _on_chunk(work, "evaluation"))
            if metrics is not None:
                metrics.write(0, control_steps=0, success=test.rate, clip_fraction=0.0, test=test.to_json())
        note = "first iteration"
        while iteration < config.iterations and not _reached(config, test):
            on_chunk = _on_chunk(work, note, config.chunks)
            try:
                state, values = ppo.iterate(
                    policy, critic, config, state, env, context.seed("ppo"), on_chunk, observe, mesh
                )
            except NonFiniteError as error:
                raise _user_error(error, iteration, context) from None
            iteration, test = int(state.iteration), None
            note = _note(values)
            if iteration % config.evaluate_every == 0 or iteration == config.iterations:
                test = _test(context, policy, policy_params(state), iteration, _on_chunk(work, "evaluation"))
                where = "stored initial states" if config.evaluate_split == "heldout" else "training reset states"
                work.progress.log(f"iteration {iteration}: without noise {test} from {where}")
            if metrics is not None:
                metrics.write(iteration, **values, **({} if test is None else {"test": test.to_json()}))
            work.progress.update(advance=1, note=note)
            checkpoints.save(iteration, state, _metadata(context))
            if is_first:
                work.clock.save()
    if isinstance(env, VectorEnv):
        env.close()
    tests = [line["test"] for line in read_metrics(work.folder / "metrics.jsonl") if "test" in line]
    return {
        "iterations": iteration,
        "control_steps": int(state.control_steps),
        "algorithm": context.run.config.policy.algorithm,
        "split": config.evaluate_split,
        "first": tests[0] if tests else None,
        "last": None if test is None else test.to_json(),
    }


def load_policy(context: Context) -> tuple[AnyPolicy, Params]:
    """Returns the trained policy of a run, and its parameters."""
    result = context.run.result("ppo")
    policy, params = bc.load_policy(context)
    state = _start(context, policy, make_critic(policy), params)
    with Checkpoints(context.run.folder / "ppo" / "checkpoints") as checkpoints:
        # Earlier versions left no checkpoint where the cloned policy reached the target.
        if result.get("iterations") != 0 or checkpoints.latest() is not None:
            state, _ = checkpoints.restore(restore_target(context.mesh, state))
    return policy, policy_params(state)


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


def _last_test(work: Work, iteration: int) -> SuccessRate | None:
    """Returns the evaluation of the iteration that is resumed from, if there was one."""
    lines = [line for line in read_metrics(work.folder / "metrics.jsonl") if line["step"] == iteration]
    return SuccessRate.from_json(lines[-1]["test"]) if lines and "test" in lines[-1] else None


def _test(
    context: Context, policy: AnyPolicy, params: Params, iteration: int, on_chunk: Callable[[int], None]
) -> SuccessRate:
    """Measures success without noise."""
    config = context.run.config.ppo
    return measure(
        context,
        policy,
        params,
        split=config.evaluate_split,
        episodes=config.evaluate_episodes,
        seed=context.seed("ppo-test", iteration),
        source="ppo",
        on_chunk=on_chunk,
    )


def _reached(config: PPOConfig, test: SuccessRate | None) -> bool:
    return (
        config.target is not None and test is not None and test.rate >= config.target and test.low >= config.target_low
    )


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
        f"PPO failed in iteration {iteration + 1}: first {error}; the last good checkpoint is iteration {iteration}; "
        f"repeat it with lower rates: `{context.run.repeat('ppo', *lower)}`"
    )


def _note(values: dict[str, float]) -> str:
    named = {name: values.get(f"seconds_{name}", 0.0) for name in ("environment", "rendering", "sampler", "update")}
    # Nothing is rendered for a policy on vectors, and the parts of an iteration that is one program have no times.
    parts = "".join(f", {name} {seconds:.1f} s" for name, seconds in named.items() if seconds > 0.05)
    return (
        f"success with noise {values['success']:.2f}, clip fraction {values['clip_fraction']:.2f}{parts}, "
        f"in all {values['seconds_total']:.1f} s"
    )
