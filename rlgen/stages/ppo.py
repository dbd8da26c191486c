"""`rlgen ppo`: the cloned policy improved by PPO over its denoising chain."""

from typing import Any

import jax
import numpy as np

from rlgen.errors import UserError
from rlgen.libero.pool import Pool
from rlgen.policies.actor import PolicyActor
from rlgen.policies.critic import Critic
from rlgen.policies.diffusion_policy import DiffusionPolicy, Params
from rlgen.report.intervals import SuccessRate
from rlgen.rl import ppo
from rlgen.rl.rollout import make_trials, run_episodes
from rlgen.stages import bc
from rlgen.stages.context import Context, Work
from rlgen.train.checkpoint import Checkpoints
from rlgen.train.metrics import Metrics


def run(context: Context, work: Work) -> dict[str, Any]:
    """Trains `ppo.iterations` iterations, with a checkpoint after each."""
    config = context.run.config.ppo
    policy, params = bc.load_policy(context)
    critic = _critic(context, policy)
    state = _start(context, policy, critic, params)
    pool = Pool([context.scene] * config.environments, threads=context.run.config.threads)
    with Checkpoints(work.folder / "checkpoints") as checkpoints:
        if checkpoints.latest() is not None:
            state, _ = checkpoints.restore(state)
        iteration = int(state.iteration)
        metrics = Metrics(work.folder / "metrics.jsonl", keep=iteration)
        work.progress.total = config.iterations
        work.progress.update(advance=iteration)
        work.progress.say("compiling sampler and update (about 30 s, in the first iterations)")
        if iteration == 0:
            test = _test(context, policy, params, 0)
            line = {"control_steps": 0, "success": test.rate, "clip_fraction": 0.0, "test": test.to_json()}
            metrics.write(0, **line)
        note = "first iteration"
        while iteration < config.iterations:

            def tell(played: int, note: str = note) -> None:
                work.progress.update(advance=0, note=f"{note}; chunk {played}/{config.chunks}")

            state, values = ppo.iterate(policy, critic, config, state, pool, context.seed("ppo"), tell)
            iteration = int(state.iteration)
            _check_finite(values, iteration)
            note = _note(values)
            if iteration % config.evaluate_every == 0 or iteration == config.iterations:
                test = _test(context, policy, ppo.policy_params(state), iteration)
                values["test"] = test.to_json()
                work.progress.say(f"iteration {iteration}: without noise {test} on training placements")
            metrics.write(iteration, **values)
            work.progress.update(advance=1, note=note)
            checkpoints.save(iteration, state, {"stage": "ppo", "task": context.scene.task.id})
            work.clock.save()
    pool.close()
    return {"iterations": iteration, "control_steps": int(state.control_steps)}


def _start(context: Context, policy: DiffusionPolicy, critic: Critic, params: Params) -> ppo.PPOState:
    key = jax.random.PRNGKey(context.seed("ppo"))
    return jax.jit(lambda params: ppo.init_state(key, policy, critic, params, context.run.config.ppo))(params)


def _critic(context: Context, policy: DiffusionPolicy) -> Critic:
    return Critic(policy.observation_size, context.run.config.policy.critic_widths)


def _test(context: Context, policy: DiffusionPolicy, params: Params, iteration: int) -> SuccessRate:
    """Success of the deterministic chain on training placements; the stored states are not touched."""
    config = context.run.config.ppo
    trials = make_trials(
        config.evaluate_episodes, len(context.scene.placements), seed=context.seed("ppo-test", iteration)
    )
    waves = run_episodes(
        context.scene,
        PolicyActor(policy, params),
        trials,
        split="train",
        source="ppo",
        width=min(25, config.evaluate_episodes),
        threads=context.run.config.threads,
        mode="fast",
    )
    episodes = [episode for wave in waves for episode in wave]
    return SuccessRate(sum(episode.success for episode in episodes), len(episodes))


def _check_finite(values: dict[str, float], iteration: int) -> None:
    broken = [name for name, value in values.items() if not np.isfinite(value)]
    if broken:
        raise UserError(
            f"PPO broke in iteration {iteration}: {broken[0]} is not finite; the last good checkpoint is "
            f"iteration {iteration - 1}; lower --ppo.actor-rate or --ppo.critic-rate"
        )


def _note(values: dict[str, float]) -> str:
    return (
        f"success with noise {values['success']:.2f}, clip fraction {values['clip_fraction']:.2f}, "
        f"environment {values['seconds_environment']:.1f} s, sampler {values['seconds_sampler']:.1f} s, "
        f"update {values['seconds_update']:.1f} s"
    )


def load_policy(context: Context) -> tuple[DiffusionPolicy, Params]:
    """The finished expert.

    Raises:
      UserError: the stage has not run, or its checkpoint is damaged.
    """
    context.run.result("ppo")
    policy, params = bc.load_policy(context)
    blank = _start(context, policy, _critic(context, policy), params)
    with Checkpoints(context.run.folder / "ppo" / "checkpoints") as checkpoints:
        state, _ = checkpoints.restore(blank)
    return policy, ppo.policy_params(state)
