"""`rlgen collect`: successes of the finished expert, by the deterministic chain, as states and actions."""

from typing import Any

import numpy as np

from rlgen.core.errors import UserError
from rlgen.core.types import Episode
from rlgen.pipeline import ppo
from rlgen.pipeline.context import Context, Work
from rlgen.pipeline.policy import gather, make_actor


def run(context: Context, work: Work) -> dict[str, Any]:
    """Gathers `collect.episodes` successes from sampled placements; the stored states stay held out."""
    config = context.run.config.collect
    work.progress.total = config.episodes
    policy, params = ppo.load_policy(context)
    episodes, tried = gather(
        context,
        work,
        work.folder / "episodes",
        make_actor(context, policy, params),
        split="train",
        source="ppo",
        seed=context.seed("collect"),
        trials=config.attempts,
        wanted=config.episodes,
    )
    if not episodes:
        raise UserError(
            f"the expert succeeded in none of {tried} episodes; train it longer (--ppo.iterations) and repeat"
        )
    if len(episodes) < config.episodes:
        work.progress.log(f"only {len(episodes)} successes in {tried} episodes; going on with these")
    lengths = [len(episode) for episode in episodes]
    return {"episodes": len(episodes), "tried": tried, "mean_length": float(np.mean(lengths))}


def load_collected(context: Context) -> list[Episode]:
    """The collected successes, in order."""
    from rlgen.data.episode import load_episodes

    wanted = context.run.result("collect")["episodes"]
    return load_episodes(context.run.folder / "collect" / "episodes")[:wanted]
