"""From the configuration to the policy, its critic, what it is shown, and how it is tested."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rlgen.configs.schema import Config
from rlgen.core.stats import SuccessRate
from rlgen.core.types import Episode
from rlgen.evaluation.loop import WIDTH, EpisodeFolder, run_trials, success_rate
from rlgen.libero.envs.environment import Mode
from rlgen.libero.envs.image_observer import make_observe
from rlgen.libero.envs.observations import observation_size
from rlgen.libero.envs.rollouts import Actor
from rlgen.libero.scenes.scene import Scene
from rlgen.pipeline.context import Context, Work
from rlgen.policies.actor import PolicyActor
from rlgen.policies.base import Params
from rlgen.policies.critic import Critic
from rlgen.policies.diffusion import DiffusionPolicy
from rlgen.policies.gaussian import GaussianPolicy
from rlgen.policies.network import ImageEncoder

AnyPolicy = DiffusionPolicy | GaussianPolicy


def make_policy(config: Config, scene: Scene) -> AnyPolicy:
    """The policy that the configuration describes."""
    chosen = config.policy
    eyes = ImageEncoder(**asdict(chosen.eyes)) if chosen.sees == "pictures" else None
    trunk = {
        "observation_size": observation_size(scene) + (0 if eyes is None else eyes.robot_size),
        "horizon": chosen.horizon,
        "architecture": chosen.network,
        "dim": chosen.dim,
        "mults": chosen.mults,
        "film_deep": chosen.film_deep,
        "widths": chosen.widths,
        "eyes": eyes,
        "precision": chosen.precision,
    }
    if chosen.algorithm == "gaussian":
        return GaussianPolicy(**trunk, sigma=chosen.sigma, sigma_range=chosen.sigma_range)
    return DiffusionPolicy(
        **trunk,
        prediction=chosen.prediction,
        train_steps=chosen.train_steps,
        sampler=chosen.sampler,
        steps=chosen.steps,
        finetuned=chosen.finetuned,
        eta_train=chosen.eta_train,
        eta_act=chosen.eta_act,
        act_sampler=chosen.act_sampler,
        sigma_min_sample=chosen.sigma_min_sample,
        sigma_min_logprob=chosen.sigma_min_logprob,
    )


def make_critic(config: Config, policy: AnyPolicy) -> Critic:
    """The critic beside it."""
    physics = config.policy.critic_physics and policy.encodes
    size = policy.observation_size if physics else policy.code_size
    return Critic(size, config.policy.critic_widths, physics=physics)


def image_size(policy: AnyPolicy) -> int | None:
    """Returns the size of the images that a policy reads, pixels; None for one on vectors."""
    return None if policy.eyes is None else policy.eyes.size


def make_actor(context: Context, policy: AnyPolicy, params: Params) -> PolicyActor:
    """The policy as an actor in the run's scene."""
    config = context.run.config
    look = make_observe([context.scene], image_size(policy), threads=config.threads)
    return PolicyActor(policy, params, look, executed=config.ppo.executed)


def measure(
    context: Context,
    policy: AnyPolicy,
    params: Params,
    *,
    split: str,
    episodes: int,
    seed: int,
    source: str,
    on_chunk: Callable[[int], None] | None = None,
) -> SuccessRate:
    """Returns the success rate of a policy without noise, measured in the run's scene.

    Args:
      context: of the run.
      policy: the policy.
      params: its parameters.
      split: initial states to start from; those of `heldout` are tried in the exact physics of the final evaluation,
        those of `train` in the fast physics of training.
      episodes: number of episodes.
      seed: root of the episodes' seeds.
      source: who acts.
      on_chunk: called after every action chunk with the number of unfinished episodes in the wave.
    """
    mode: Mode = "exact" if split == "heldout" else "fast"
    return success_rate(
        context.scene,
        make_actor(context, policy, params),
        episodes,
        seed=seed,
        split=split,
        source=source,
        threads=context.run.config.threads,
        mode=mode,
        on_chunk=on_chunk,
    )


def gather(
    context: Context,
    work: Work,
    folder: Path,
    actor: Actor,
    *,
    trials: int,
    seed: int,
    split: str,
    source: str,
    wanted: int | None = None,
    width: int = WIDTH,
    mode: Mode = "exact",
) -> tuple[list[Episode], int]:
    """Runs up to `trials` episodes of an actor, each wave stored before the next one starts.

    Args:
      context: of the run.
      work: the stage at work, whose progress and clock follow the waves.
      folder: of the episodes; what an interrupted stage left there is kept.
      actor: turns observations into action chunks.
      trials: number of episodes, or the most of them with `wanted`.
      seed: root of the episodes' seeds.
      split: initial states to start from, `train` or `heldout`.
      source: who acts, as stored in the episodes.
      wanted: number of successes to stop after; then failures are not stored.
      width: environments that are stepped together.
      mode: physics, `exact` or `fast`.

    Returns:
      The episodes, in order, at most `wanted` of them; and how many were tried for them.
    """
    stored = EpisodeFolder(folder, wanted)
    kept = 0

    def on_chunk(active: int) -> None:
        first, last = stored.tried + 1, min(stored.tried + width, trials)
        work.progress.update(advance=0, note=f"trials {first}-{last}, {active} unfinished")

    def on_wave() -> None:
        nonlocal kept
        new, kept = len(stored.names) - kept, len(stored.names)
        work.progress.update(advance=new, note=f"{kept} kept of {stored.tried} tried")
        work.clock.save()

    if stored.tried:
        on_wave()
    run_trials(
        context.scene,
        actor,
        trials,
        stored,
        seed=seed,
        split=split,
        source=source,
        width=width,
        threads=context.run.config.threads,
        mode=mode,
        on_chunk=on_chunk,
        on_wave=on_wave,
    )
    return stored.load(), stored.tried
