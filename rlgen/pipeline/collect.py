"""Stage `collect`: successful episodes of the finished expert, without exploration noise, as states and actions.

`collect.source clone` collects those of the cloned policy that PPO began with, from the same initial states with the
same seeds: the control that tells what PPO added. `collect.source exploring` collects the expert's with the noise of
PPO's rollouts: less consistent data from the same expert. All are kept.
"""

from typing import Any

import numpy as np

from rlgen.core.errors import UserError
from rlgen.core.types import Episode
from rlgen.curation.sources import ACTORS, COLLECTED, collected
from rlgen.data.episode import load_episodes
from rlgen.evaluation.loop import EpisodeFolder
from rlgen.pipeline import bc, ppo
from rlgen.pipeline.context import Context, Work
from rlgen.pipeline.policy import gather, make_actor


def run(context: Context, work: Work) -> dict[str, Any]:
    """Gathers `collect.episodes` successes from training reset states; the stored initial states stay held out.

    Raises:
      UserError: no episode succeeded.
    """
    config = context.run.config.collect
    work.progress.total = config.episodes
    if work.folder.joinpath("done.json").is_file() and context.run.started("export"):
        repeat = context.run.repeat("export")
        work.progress.log(f"what was exported before stays; for a dataset of {config.source} run `{repeat}`")
    policy, params = (bc if config.source == "clone" else ppo).load_policy(context)
    episodes, tried = gather(
        context,
        work,
        context.run.folder / COLLECTED[config.source],
        make_actor(context, policy, params, explore=config.source == "exploring"),
        trials=config.max_trials,
        seed=context.seed("collect"),
        split=context.scene.training_split,
        source=ACTORS[config.source],
        wanted=config.episodes,
        fixtures=context.scene.training_fixtures,
    )
    if not episodes:
        raise _nothing(context, tried)
    if len(episodes) < config.episodes:
        work.progress.log(f"only {len(episodes)} successes in {tried} episodes; continuing with these")
    lengths = [len(episode) for episode in episodes]
    counts = {"episodes": len(episodes), "tried": tried, "mean_length": float(np.mean(lengths))}
    return {"source": config.source, **counts}


def _nothing(context: Context, tried: int) -> UserError:
    config = context.run.config
    if config.collect.source == "clone":
        longer = context.run.repeat("bc", f"--bc.optimizer-steps {2 * config.bc.optimizer_steps}")
        return UserError(f"the clone succeeded in none of {tried} episodes", f"clone longer with `{longer}`")
    longer = context.run.repeat("ppo", f"--ppo.iterations {2 * config.ppo.iterations}")
    return UserError(f"the expert succeeded in none of {tried} episodes", f"train it longer with `{longer}`")


def load_collected(context: Context) -> list[Episode]:
    """Returns the collected successes of the run's `collect.source`, in order."""
    wanted = collected(context.run)["episodes"]
    return load_episodes(context.run.folder / COLLECTED[context.run.config.collect.source])[:wanted]


def load_all_collected(context: Context) -> dict[str, list[Episode]]:
    """Returns the collected successes of every source that has any, by actor, `ppo` first."""
    collected(context.run)
    wanted = context.run.config.collect.episodes
    found = {
        ACTORS[source]: EpisodeFolder(context.run.folder / path, wanted).load() for source, path in COLLECTED.items()
    }
    return {actor: episodes for actor, episodes in found.items() if episodes}
