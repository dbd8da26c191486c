"""Episodes of an actor, gathered wave by wave, so that an interrupted stage goes on where it was."""

from collections.abc import Callable
from pathlib import Path

from rlgen.core.files import read_json, write_json
from rlgen.core.types import Episode
from rlgen.data.episode import load_episode, save_episode
from rlgen.libero.envs.environment import Mode
from rlgen.libero.envs.rollouts import Actor, make_trials, run_episodes
from rlgen.pipeline.context import Context, Work

WAVE = 25


def gather(
    context: Context,
    work: Work,
    folder: Path,
    actor: Actor,
    *,
    split: str,
    source: str,
    seed: int,
    attempts: int,
    wanted: int | None = None,
    mode: Mode = "exact",
    width: int = WAVE,
    note: Callable[[int, int], str] | None = None,
) -> tuple[list[Episode], int]:
    """Runs up to `attempts` episodes, and with `wanted` only until that many have succeeded.

    Every finished wave is on disk before the next one starts: all its episodes, or only the successes where
    `wanted` is given, and a record of how many were tried.

    Returns:
      The episodes, in order, at most `wanted` of them; and how many were tried for them.
    """
    scene = context.scene
    tried, names = 0, []
    while tried < attempts and (wanted is None or len(names) < wanted):
        record = folder / f"wave-{tried:05d}.json"
        count = min(width, attempts - tried)
        if not record.is_file():
            trials = make_trials(count, len(scene.initial_states(split)), seed=seed, offset=tried)
            first, last = tried + 1, tried + count

            def tell(active: int, first: int = first, last: int = last) -> None:
                work.progress.update(advance=0, note=f"attempts {first}-{last}, {active} still going")

            [episodes] = run_episodes(
                scene,
                actor,
                trials,
                split=split,
                source=source,
                width=width,
                threads=context.run.config.threads,
                mode=mode,
                on_chunk=tell,
            )
            kept = []
            for number, episode in enumerate(episodes):
                if wanted is None or episode.success:
                    kept.append(f"{tried + number:05d}.npz")
                    save_episode(folder / kept[-1], episode)
            write_json(record, {"tried": count, "episodes": kept, "successes": sum(e.success for e in episodes)})
            work.clock.save()
        told = read_json(record)
        new = told["episodes"] if wanted is None else told["episodes"][: wanted - len(names)]
        tried += told["tried"]
        names += new
        work.progress.update(advance=len(new), note=f"{len(names)} kept of {tried} tried")
    return [load_episode(folder / name) for name in names], tried
