"""Stage `evaluate`: success of every actor from the benchmark's stored initial states, which nothing was trained on."""

from collections.abc import Callable
from typing import Any

from rlgen.configs.schema import Config
from rlgen.core.stats import SuccessRate
from rlgen.core.types import Episode
from rlgen.data.episode import load_episode
from rlgen.data.metrics.score import Score, change
from rlgen.evaluation.loop import WIDTH
from rlgen.evaluation.score import score_episodes
from rlgen.libero.envs.environment import SETTLE_STEPS
from rlgen.libero.envs.rollouts import Actor
from rlgen.pipeline import bc, demos, ppo, vla_train
from rlgen.pipeline.context import Context, Work
from rlgen.pipeline.policy import gather
from rlgen.pipeline.policy import make_actor as make_policy_actor

# Names of folders and keys of results; `demonstrator` is the scripted expert.
ACTORS = ("demonstrator", "bc", "ppo", "vla")


def actors(config: Config) -> tuple[str, ...]:
    """Returns the actors that a run evaluates: without the scripted expert if demonstrations come from a file."""
    return ACTORS if config.demos.file is None else ACTORS[1:]


def make_actor(context: Context, name: str) -> Actor:
    """Returns an actor of the run by its name, one of `ACTORS`; the scripted expert as it demonstrated."""
    makers: dict[str, Callable[[], Actor]] = {
        "demonstrator": lambda: demos.scripted_expert(context),
        "bc": lambda: make_policy_actor(context, *bc.load_policy(context)),
        "ppo": lambda: make_policy_actor(context, *ppo.load_policy(context)),
        "vla": lambda: vla_train.load_actor(context),
    }
    return makers[name]()


def run(context: Context, work: Work) -> dict[str, Any]:
    """Measures the success rate of each actor, and what PPO changed against its clone; every episode is kept."""
    config = context.run.config.evaluate
    counts = {name: config.vla_episodes if name == "vla" else config.episodes for name in actors(context.run.config)}
    work.progress.total = sum(counts.values())
    rates: dict[str, Any] = {}
    scores: dict[str, Score] = {}
    for name, count in counts.items():
        work.progress.log(f"{name}: {count} episodes from the stored initial states")
        episodes, _ = gather(
            context,
            work,
            work.folder / name,
            make_actor(context, name),
            trials=count,
            seed=context.seed("evaluate", name),
            split="heldout",
            source=name,
            width=min(WIDTH, count),
            fixtures=config.fixtures,
        )
        rate = SuccessRate(sum(episode.success for episode in episodes), len(episodes))
        work.progress.log(f"{name}: {rate}")
        rates[name] = rate.to_json()
        if name in ("bc", "ppo"):
            scores[name] = score_episodes(context.scene, episodes)
    changed = change(scores["bc"], scores["ppo"]) if len(scores) == 2 else None
    return {"rates": rates, **({"change": changed} if changed else {}), "protocol": protocol(context)}


def protocol(context: Context) -> dict[str, Any]:
    """Returns how success was measured, for the summary."""
    return {
        "initial_states": f"stored states 0-{len(context.scene.stored_states) - 1} in order",
        "settling_steps": SETTLE_STEPS,
        "horizon": context.scene.task.horizon,
        "physics": "exact",
        "fixtures": context.run.config.evaluate.fixtures,
        "success": "the benchmark's goal predicate after any control step",
    }


def first_episode(context: Context, name: str) -> Episode | None:
    """Returns the first evaluated episode of an actor; None if it was not evaluated."""
    folder = context.run.folder / "evaluate" / name
    files = sorted(folder.glob("*.npz"))
    return load_episode(files[0]) if files else None
