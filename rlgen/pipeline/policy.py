"""From the configuration to the policy, its critic, what it is shown, and how it is tested."""

from collections.abc import Callable
from dataclasses import asdict

from rlgen.configs.schema import Config
from rlgen.core.stats import SuccessRate
from rlgen.libero.envs.environment import Mode
from rlgen.libero.envs.image_observer import make_observe
from rlgen.libero.envs.observations import observation_size
from rlgen.libero.envs.rollouts import make_trials, run_episodes
from rlgen.libero.scenes.scene import Scene
from rlgen.pipeline.context import Context
from rlgen.policies.actor import PolicyActor
from rlgen.policies.base import Params
from rlgen.policies.critic import Critic
from rlgen.policies.diffusion import DiffusionPolicy
from rlgen.policies.gaussian import GaussianPolicy
from rlgen.policies.network import ImageEncoder

AnyPolicy = DiffusionPolicy | GaussianPolicy
# Environments that are stepped together in a test.
WIDTH = 25


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


def make_actor(context: Context, policy: AnyPolicy, params: Params) -> PolicyActor:
    """The policy as an actor in the run's scene."""
    config = context.run.config
    look = make_observe(policy, [context.scene], threads=config.threads)
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
    """Success of the policy without noise; held-out states in the physics of the final evaluation."""
    mode: Mode = "exact" if split == "heldout" else "fast"
    waves = run_episodes(
        context.scene,
        make_actor(context, policy, params),
        make_trials(episodes, len(context.scene.initial_states(split)), seed=seed),
        split=split,
        source=source,
        width=min(WIDTH, episodes),
        threads=context.run.config.threads,
        mode=mode,
        on_chunk=on_chunk,
    )
    found = [episode.success for wave in waves for episode in wave]
    return SuccessRate(sum(found), len(found))
