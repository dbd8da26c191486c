"""The policy of a run: made from the configuration, with its critic and as an actor, and the episodes that it runs."""

from collections.abc import Callable, Sequence
from pathlib import Path

from jax.sharding import Mesh

from rlgen.configs.schema import Config
from rlgen.core.errors import UserError
from rlgen.core.types import Episode
from rlgen.data.metrics.score import Score, make_score
from rlgen.evaluation.loop import WIDTH, EpisodeFolder, run_trials
from rlgen.evaluation.score import score_trials
from rlgen.libero.envs.environment import Physics
from rlgen.libero.envs.image_observer import Observe, make_observe
from rlgen.libero.envs.observations import observation_size
from rlgen.libero.envs.rollouts import Actor
from rlgen.libero.scenes.fixtures import Fixtures
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.warp.device import load_warp
from rlgen.pipeline.context import Context, Work
from rlgen.policies.actor import PolicyActor
from rlgen.policies.base import Params
from rlgen.policies.diffusion import DiffusionPolicy
from rlgen.policies.gaussian import GaussianPolicy
from rlgen.rl import ppo
from rlgen.training.processes import exchange
from rlgen.training.sharding import check_divides, one_copy

AnyPolicy = DiffusionPolicy | GaussianPolicy


def make_policy(config: Config, scene: Scene) -> AnyPolicy:
    """Returns the policy that the configuration describes, for the observations of a scene."""
    size = observation_size(scene)
    if config.policy.has_images:
        size += config.policy.image_encoder.robot_state_size
    kind = GaussianPolicy if config.policy.algorithm == "gaussian" else DiffusionPolicy
    return kind(config.policy, size)


def check_devices(policy: AnyPolicy, config: Config, mesh: Mesh | None) -> None:
    """Checks, before cloning, that what cloning and PPO run on is there and that they can be divided over it.

    Args:
      policy: the policy.
      config: of the run.
      mesh: devices.

    Raises:
      UserError: environments or minibatches do not divide, or MuJoCo Warp is needed and not installed.
    """
    on_accelerator = config.ppo.world == "warp"
    if on_accelerator or (policy.has_images and config.policy.image_encoder.renderer == "warp"):
        load_warp()
    if on_accelerator and mesh is not None:
        raise UserError(
            f"ppo.world warp on {mesh.size} devices: expected 1; leave out --devices, or take ppo.world cpu"
        )
    check_divides(mesh, "bc.batch", config.bc.batch, config.bc.batch)
    ppo.check_mesh(policy, config.ppo, mesh)


def policy_observe(policy: AnyPolicy, scenes: Sequence[Scene], *, threads: int) -> Observe:
    """Returns the function that makes the policy's observations of those of environments.

    Args:
      policy: the policy.
      scenes: scene of each row of the observations.
      threads: of rendering.
    """
    return make_observe(scenes, image_size(policy), threads=threads, renderer=policy.config.image_encoder.renderer)


def image_size(policy: AnyPolicy) -> int | None:
    """Returns width and height of the images that a policy reads, pixels; None for one that reads none."""
    return policy.config.image_encoder.image_size if policy.has_images else None


def make_actor(context: Context, policy: AnyPolicy, params: Params, *, explore: bool = False) -> PolicyActor:
    """Returns a policy as an actor in the run's scene.

    Args:
      context: of the run.
      policy: the policy.
      params: its parameters.
      explore: with the noise of PPO's rollouts.
    """
    config = context.run.config
    observe = policy_observe(policy, [context.scene], threads=config.workers)
    return PolicyActor(policy, params, observe, action_steps=config.ppo.action_steps, explore=explore)


def measure(
    context: Context,
    policy: AnyPolicy,
    params: Params,
    *,
    split: str,
    episodes: int,
    seed: int,
    source: str,
    offset: int = 0,
    fixtures: Fixtures = "fixed",
    explore: bool = False,
    on_chunk: Callable[[int], None] | None = None,
) -> Score:
    """Returns the score of a policy, measured in the run's scene.

    Of several processes each runs its share of the episodes; all return the score over all of them.

    Args:
      context: of the run.
      policy: the policy.
      params: its parameters, of the run's mesh.
      split: initial states to start from; those of `heldout` are tried in the exact physics of the final evaluation,
        those of training in the fast physics of training.
      episodes: number of episodes.
      seed: root of the episodes' seeds.
      source: who acts.
      offset: initial states that are passed over.
      fixtures: `fixed`, or `redraw`, which draws where they stand from the seed of each episode.
      explore: with the noise of PPO's rollouts.
      on_chunk: called after every action chunk with the number of unfinished episodes in the wave.
    """
    physics: Physics = "exact" if split == "heldout" else "fast"
    devices = context.devices
    rows = score_trials(
        context.scene,
        make_actor(context, policy, one_copy(context.mesh, params), explore=explore),
        episodes,
        seed=seed,
        split=split,
        source=source,
        offset=offset,
        threads=context.run.config.workers,
        physics=physics,
        fixtures=fixtures,
        share=(devices.process, devices.processes),
        on_chunk=on_chunk,
    )
    return make_score(exchange(rows[None]).sum(axis=0))


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
    physics: Physics = "exact",
    fixtures: Fixtures = "fixed",
) -> tuple[list[Episode], int]:
    """Runs up to `trials` episodes of an actor, each wave stored before the next one starts.

    Args:
      context: of the run.
      work: the stage at work, whose progress and clock follow the waves.
      folder: of the episodes; what an interrupted stage left there is kept.
      actor: turns observations into action chunks.
      trials: number of episodes, or the most of them with `wanted`.
      seed: root of the episodes' seeds.
      split: initial states to start from, `heldout` or the scene's `training_split`.
      source: who acts, as stored in the episodes.
      wanted: number of successes to stop after; then failures are not stored.
      width: environments that are stepped together.
      physics: `exact` or `fast`.
      fixtures: `fixed`, or `redraw` for a draw in every episode.

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
        threads=context.run.config.workers,
        physics=physics,
        fixtures=fixtures,
        on_chunk=on_chunk,
        on_wave=on_wave,
    )
    return stored.load(), stored.tried
