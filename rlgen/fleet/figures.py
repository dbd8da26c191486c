"""What the ledger says of a finished run: the clone and the expert side by side, and PPO's successes with noise."""

import math
from pathlib import Path
from typing import Any

from rlgen.core.stats import SuccessRate
from rlgen.core.types import Episode
from rlgen.data.episode import load_episodes
from rlgen.data.images import flip_vertical
from rlgen.data.metrics.quality import DatasetQuality, recorded_quality
from rlgen.libero.envs.observations import Observer
from rlgen.libero.rendering.pool import RenderPool
from rlgen.pipeline.bc import read_demonstrations
from rlgen.pipeline.context import Context
from rlgen.report.video import write_gif
from rlgen.training.metrics import read_metrics
from rlgen.training.run import Run

# Names of the actors of the stage `evaluate`, as the ledger has them.
ACTORS = {"demonstrator": "scripted", "bc": "clone", "ppo": "expert"}
CLIP_SIZE = 128  # pixels
CLIP_EVERY = 4  # one frame of so many control steps
CLIP_BYTES = 60_000
CONTROL_HZ = 20.0


def run_figures(context: Context) -> dict[str, Any]:
    """Returns the figures of a finished run, as JSON values.

    For each actor that was evaluated, from the stored initial states: `success` with its interval, and of its successes
    `length` (control steps) and `jerk` (m²/s⁶), means with bootstrap intervals, and `noops`, in all. `noise` has the
    success of PPO's rollouts with exploration noise in the first and the last iteration, `demos` and `collected` how
    many episodes were kept, and of how many.

    Args:
      context: of the run.
    """
    run = context.run
    figures: dict[str, Any] = {"demos": _counts(run, "demos")}
    for name, label in ACTORS.items():
        episodes = evaluated(run, name)
        if episodes:
            rate = SuccessRate(sum(episode.success for episode in episodes), len(episodes))
            figures[label] = {"success": rate.to_json(), **_quality(context, [e for e in episodes if e.success])}
    if run.done("ppo"):
        figures["noise"] = noise(run.folder / "ppo" / "metrics.jsonl")
        figures["iterations"] = run.result("ppo")["iterations"]
    if run.done("collect"):
        figures["collected"] = _counts(run, "collect")
    if "expert" not in figures and "clone" not in figures:
        demonstrations = read_demonstrations(context)
        tried = run.result("demos")["tried"]
        rate = SuccessRate(min(len(demonstrations), tried), tried)
        figures["scripted"] = {"success": rate.to_json(), **_quality(context, demonstrations)}
    return figures


def evaluated(run: Run, actor: str) -> list[Episode]:
    """Returns the episodes of an actor in the stage `evaluate`, in order; none where it was not evaluated."""
    folder = run.folder / "evaluate" / actor
    return load_episodes(folder) if folder.is_dir() and run.done("evaluate") else []


def noise(path: Path) -> dict[str, float | None]:
    """Returns the success with exploration noise in PPO's first and last iteration; None where no episode ended.

    Args:
      path: of PPO's metrics, whose line of step 0 is about the clone without noise.
    """
    rates = [line["success"] for line in read_metrics(path) if line["step"] > 0 and "success" in line]
    ends = {"first": rates[0], "last": rates[-1]} if rates else {"first": None, "last": None}
    return {name: None if rate is None or not math.isfinite(rate) else float(rate) for name, rate in ends.items()}


def _counts(run: Run, stage: str) -> dict[str, Any]:
    return {name: run.result(stage)[name] for name in ("episodes", "tried", "mean_length")}


def _quality(context: Context, episodes: list[Episode]) -> dict[str, Any]:
    if not episodes:
        return {"length": None, "jerk": None, "noops": None}
    robots = [Observer(context.scene.placed(episode.fixtures))(episode.states).robot for episode in episodes]
    quality: DatasetQuality = recorded_quality(episodes, robots)
    return {
        "length": quality.length.to_json(),
        "jerk": quality.mean_squared_jerk.to_json(),
        "noops": quality.noops,
    }


def write_clips(context: Context, folder: Path) -> None:
    """Writes one success and one failure of the last actor, the first of each, as small GIFs; those there are replaced.

    Args:
      context: of a finished run.
      folder: for `success.gif` and `failure.gif`.
    """
    episodes = evaluated(context.run, "ppo") or evaluated(context.run, "bc") or read_demonstrations(context)
    chosen = {
        "success": next((episode for episode in episodes if episode.success), None),
        "failure": next((episode for episode in episodes if not episode.success), None),
    }
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
