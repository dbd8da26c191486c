"""The package in Python: what `import rlgen` gives."""

from pathlib import Path

from rlgen.core.process import cache_folder, prepare_process
from rlgen.data.dataset import open_dataset
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.scenes.assets import find_assets
from rlgen.libero.scenes.bundles import load_scene as load_scene_bundle
from rlgen.libero.scenes.scene import Scene
from rlgen.pipeline import ppo
from rlgen.pipeline.context import Context
from rlgen.pipeline.policy import make_actor
from rlgen.policies.actor import PolicyActor
from rlgen.training.run import open_run
from rlgen.vla.serving.policy import VlaPolicy, open_policy

__all__ = ["VectorEnv", "load_expert", "load_scene", "load_vla", "open_dataset"]


def load_scene(task: str, *, assets: str | Path | None = None, placeholders: bool = False) -> Scene:
    """Loads a LIBERO task, built the first time (about 10 s).

    Args:
      task: suite and index (libero_goal/7), name, or instruction.
      assets: folder of LIBERO's object assets; by default those that are found.
      placeholders: use the built-in placeholder assets.

    Raises:
      UserError: unknown task, or assets that cannot be used.
    """
    prepare_process()
    folder = None if assets is None else Path(assets)
    source = find_assets(folder, placeholders=placeholders, cache=cache_folder())
    return load_scene_bundle(task, source, cache_folder())


def load_expert(run: str | Path) -> tuple[PolicyActor, Scene]:
    """Loads the policy that PPO trained in a run, as an actor without exploration, and the scene of its task.

    Args:
      run: directory of `rlgen expert` or `rlgen quickstart`.

    Raises:
      UserError: no run, or its stage `ppo` has not run.
    """
    prepare_process()
    context = Context(open_run(Path(run)), cache_folder())
    return make_actor(context, *ppo.load_policy(context)), context.scene


def load_vla(model: str | Path) -> VlaPolicy:
    """Loads a flow VLA with its transforms.

    Args:
      model: folder that `rlgen vla train` wrote, `<out>/model/<steps>`.

    Raises:
      UserError: no model there.
    """
    prepare_process()
    return open_policy(Path(model))
