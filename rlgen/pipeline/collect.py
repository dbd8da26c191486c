"""Stage `collect`: successful episodes of the finished expert, without exploration noise, as states and actions."""

from typing import Any

import numpy as np

from rlgen.core.errors import UserError
from rlgen.core.types import Episode
from rlgen.data.episode import load_episodes
from rlgen.pipeline import ppo
from rlgen.pipeline.context import Context, Work
from rlgen.pipeline.policy import gather, make_actor


def run(context: Context, work: Work) -> dict[str, Any]:
    """Gathers `collect.episodes` successes from training reset states; the stored initial states stay held out.

    Raises:
      UserError: no episode succeeded.
    """
    config = context.run.config.collect
    work.progress.total = config.episodes
    policy, params = ppo.load_policy(context)
    episodes, tried = gather(
        context,
        work,
        work.folder / "episodes",
        make_actor(context, policy, params),
        trials=config.max_trials,
        seed=context.seed("collect"),
        split=context.scene.training_split,
        source="ppo",
        wanted=config.episodes,
    )
    if not episodes:
        longer = context.run.repeat("ppo", f"--ppo.iterations {2 * context.run.config.ppo.iterations}")
        raise UserError(f"the expert succeeded in none of {tried} episodes; train it longer with `{longer}`")
    if len(episodes) < config.episodes:
        work.progress.log(f"only {len(episodes)} successes in {tried} episodes; continuing with these")
    lengths = [len(episode) for episode in episodes]
    return {"episodes": len(episodes), "tried": tried, "mean_length": float(np.mean(lengths))}


def load_collected(context: Context) -> list[Episode]:
    """Returns the collected successes, in order."""
    wanted = context.run.result("collect")["episodes"]
    return load_episodes(context.run.folder / "collect" / "episodes")[:wanted]
