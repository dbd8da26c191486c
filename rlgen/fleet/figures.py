"""Figures of a finished run, for the ledger: clone and expert from the same stored initial states, and two videos."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlgen.core.stats import SuccessRate
from rlgen.core.types import Episode
from rlgen.curation.sources import COLLECTED
from rlgen.data.episode import load_episode
from rlgen.data.images import flip_vertical
from rlgen.data.metrics.score import ScoreSummary
from rlgen.evaluation.loop import WIDTH, run_trials
from rlgen.evaluation.score import score_episodes
from rlgen.libero.rendering.pool import RenderPool
from rlgen.pipeline import bc, ppo
from rlgen.pipeline.bc import read_demonstrations
from rlgen.pipeline.context import Context
from rlgen.pipeline.policy import make_actor, measure
from rlgen.report.video import write_gif
from rlgen.training.run import Run

CLIP_SIZE = 128  # pixels
CLIP_EVERY = 4  # one frame of so many control steps
CLIP_BYTES = 60_000
CONTROL_HZ = 20.0


def run_figures(context: Context) -> dict[str, Any]:
    """Returns the figures of a finished run, as JSON values.

    Of `clone` and `expert`, or of the `scripted` expert's demonstrations: success with its interval, and means over the
    successes (see `ScoreSummary`). `change` says what PPO changed, with paired intervals; `noise` has the success of
    PPO's rollouts with exploration noise in the first and the last iteration; `demos` and `collected` how many episodes
    were kept, of how many.

    Args:
      context: of the run.
    """
    run = context.run
    figures: dict[str, Any] = {"demos": _counts(run, "demos")}
    if run.done("collect"):
        figures["collected"] = _counts(run, "collect")
    if run.done("ppo"):
        return figures | _of_expert(run.result("ppo"))
    if run.done("bc"):
        return figures | {"clone": _score_clone(context).to_json()}
    demonstrations = read_demonstrations(context)
    tried = run.result("demos")["tried"]
    kept = SuccessRate(min(len(demonstrations), tried), tried)
    return figures | {"scripted": score_episodes(context.scene, demonstrations).summary().to_json() | kept.to_json()}


def _counts(run: Run, stage: str) -> dict[str, Any]:
    return {name: run.result(stage)[name] for name in ("episodes", "tried", "mean_length")}


def _of_expert(result: dict[str, Any]) -> dict[str, Any]:
    """Returns the figures of PPO's result."""
    figures: dict[str, Any] = {name: result[name] for name in ("iterations", "ended")}
    figures["noise"] = result["exploration"] or {}
    if "heldout" in result:
        figures |= {"clone": result["heldout"]["bc"], "expert": result["heldout"]["ppo"], "change": result["change"]}
    return figures


def _trials(context: Context) -> int:
    """Returns from how many stored initial states policies are scored."""
    return context.run.config.ppo.score_episodes or context.run.config.evaluate.episodes


def _score_clone(context: Context) -> ScoreSummary:
    """Scores the clone of a run without PPO, from the states and with the seeds with which PPO would have scored it."""
    policy, params = bc.load_policy(context)
    options = {"split": "heldout", "source": "bc", "fixtures": "redraw", "seed": context.seed("ppo-score")}
    return measure(context, policy, params, episodes=_trials(context), **options).summary()


def write_clips(context: Context, folder: Path, figures: dict[str, Any]) -> None:
    """Writes one success and, if there was any, one failure of the actor of the episodes as small GIFs.

    Args:
      context: of a finished run.
      folder: for `success.gif` and `failure.gif`; what is there is replaced.
      figures: of the run.
    """
    actor = "expert" if "expert" in figures else "clone"
    failed = actor in figures and SuccessRate.from_json(figures[actor]).rate < 1
    chosen = {"success": _first_success(context), "failure": _first_failure(context, actor) if failed else None}
    with RenderPool(context.scene, cameras=("agentview",), image_size=CLIP_SIZE, workers=1) as pool:
        for name, episode in chosen.items():
            path = folder / f"{name}.gif"
            if episode is None:
                path.unlink(missing_ok=True)
                continue
            images = pool.render(episode.states[::CLIP_EVERY], fixtures=episode.fixtures)[:, 0]
            write_gif(
                path,
                flip_vertical(images),
                caption=f"{'stored' if episode.split == 'heldout' else 'training'} state {episode.initial_index}",
                success=episode.success,
                size=CLIP_SIZE,
                every=1,
                control_hz=CONTROL_HZ / CLIP_EVERY,
                max_bytes=CLIP_BYTES,
            )


def _first_success(context: Context) -> Episode | None:
    """Returns the first episode that was collected, or the first demonstration."""
    run = context.run
    if not run.done("collect"):
        return next(iter(read_demonstrations(context)), None)
    files = sorted((run.folder / COLLECTED[run.config.collect.source]).glob("*.npz"))
    return load_episode(files[0]) if files else None


class _FirstFailure:
    """A sink that is full with the first failure and keeps nothing else."""

    finished: Sequence[int] = ()

    def __init__(self) -> None:
        self.episode: Episode | None = None

    @property
    def full(self) -> bool:
        return self.episode is not None

    def add(self, trials: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Takes a wave."""
        self.episode = next((episode for episode in episodes if not episode.success), None)


def _first_failure(context: Context, actor: str) -> Episode | None:
    """Returns the first of the scored trials that failed; they are run again, since scores keep no episodes."""
    policy, params = (ppo if actor == "expert" else bc).load_policy(context)
    count, sink = _trials(context), _FirstFailure()
    run_trials(
        context.scene,
        make_actor(context, policy, params),
        count,
        sink,
        seed=context.seed("ppo-score"),
        split="heldout",
        source="ppo" if actor == "expert" else "bc",
        width=min(WIDTH, count),
        threads=context.run.config.workers,
        physics="exact",
        fixtures="redraw",
    )
    return sink.episode
