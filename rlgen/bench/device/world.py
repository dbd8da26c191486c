"""Parts of whole PPO iterations, with LIBERO's world on the CPU or on the accelerator, and the scenes of all parts."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rlgen.bench.device.record import Put, Setup
from rlgen.bench.iteration import Timings, measure_scene, summary
from rlgen.configs.presets import expert_presets, fit_to
from rlgen.configs.schema import Config, PolicyConfig
from rlgen.core.errors import UserError
from rlgen.core.process import cache_folder
from rlgen.libero.envs.worlds import TrainingWorld
from rlgen.libero.scenes.assets import find_assets
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.scenes.scene import Scene, load_scene_bundle
from rlgen.libero.tasks.suites import find_task

TASK = "libero_object/6"
ENVIRONMENTS = 200
ITERATIONS = 2


def iterations(
    put: Put,
    setup: Setup,
    *,
    preset: Literal["state", "vision", "compact"],
    groups: Sequence[int],
    world: TrainingWorld = "cpu",
    environments: int = ENVIRONMENTS,
) -> None:
    """Measures whole PPO iterations: seconds of each part, control steps per second, the accelerator's idle share.

    Args:
      put: receives the figures, after every iteration.
      setup: of the run.
      preset: of `rlgen expert`.
      groups: numbers of groups of environments that take turns.
      world: where the environments are; on an accelerator images are drawn there as well.
      environments: of a rollout.
    """
    scene = scene_of(TASK, setup)
    config = fit_to(expert_presets()[preset], scene.task.horizon)
    config = _placed(config, world, environments)
    config = _tiny(config) if setup.dry_run else config

    def on_iteration(timings: Timings) -> None:
        for count, each in timings.items():
            if each:
                put(f"groups {count}", {"environments": config.ppo.environments, **summary(each)})

    count = 1 if setup.dry_run else ITERATIONS
    options = {"threads": setup.threads, "groups": groups, "iterations": count}
    compiled: dict[str, float] = {}

    def on_compiled(groups: int, seconds: float) -> None:
        # A program that takes long to compile leaves this, where its time is over before an iteration that counts.
        compiled[f"groups {groups}, s"] = seconds
        put("first iteration", compiled)

    measure_scene(scene, config, **options, on_iteration=on_iteration, on_compiled=on_compiled)


def _placed(config: Config, world: TrainingWorld, environments: int) -> Config:
    """Returns a configuration whose environments are elsewhere, and whose policy learns from the first iteration on.

    More environments have larger minibatches, not more of them.
    """
    encoder = replace(config.policy.image_encoder, renderer="warp" if world == "warp" else "fast")
    batch = config.ppo.batch * environments // config.ppo.environments
    ppo = replace(config.ppo, world=world, environments=environments, batch=batch, critic_warmup=0)
    return replace(config, fixtures="fixed", policy=replace(config.policy, image_encoder=encoder), ppo=ppo)


def _tiny(config: Config) -> Config:
    """Returns the same kind of policy and training in sizes to try."""
    encoder = replace(config.policy.image_encoder, image_size=32, widths=(8, 16))
    policy = PolicyConfig(
        observation=config.policy.observation,
        network=config.policy.network,
        compute_dtype=config.policy.compute_dtype,
        dim=8,
        mlp_widths=(8,),
        norm_groups=4,
        image_encoder=encoder,
    )
    # Fewest control steps: worlds on Warp's CPU device are slow.
    ppo = replace(config.ppo, environments=2, chunks=2, epochs=1, batch=20, microbatch=10, action_steps=2)
    return replace(config, policy=policy, ppo=ppo)


def scene_of(task: str, setup: Setup) -> Scene:
    """Returns the scene of a task, from the folder of bundles that was carried along, or from the cache.

    Args:
      task: as `find_task` takes it.
      setup: of the run.

    Raises:
      UserError: there is no such bundle, or it cannot be built.
    """
    if setup.scenes is not None:
        name = task.replace("/", "-")
        found = sorted(path for path in Path(setup.scenes).glob(f"{name}-*") if path.is_dir())
        if not found:
            raise UserError(f"{setup.scenes}: no scene bundle {name}-*; run `experiments/device/pack.py` again")
        return load_scene_bundle(found[0])
    cache = cache_folder()
    folder = None if setup.assets is None else Path(setup.assets)
    return load_scene(find_task(task), find_assets(folder, placeholders=setup.placeholders, cache=cache), cache)
