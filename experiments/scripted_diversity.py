"""Diversity of the scripted expert's paths, with human-like variation and without.

Command:  uv run python experiments/scripted_diversity.py --assets DIR [--out experiments/results/diversity]
Cost:     five minutes on two cores.
Expected: human-like paths spread several times wider than clean ones, in at least two clusters.

One task of each kind, 24 episodes each from one stored initial state, so that only the manner differs. A path is the
grip site's, resampled to 50 points over the episode; the spread is the mean distance to the mean path. Clusters are
those of k-means with the highest silhouette, k from 2 to 4, and count as modes where that is above 0.3.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.spatial.distance import cdist

from rlgen.core.files import write_json
from rlgen.core.process import cache_folder
from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.libero.envs.observations import Observer
from rlgen.libero.envs.rollouts import Trial, run_episodes
from rlgen.libero.scenes.assets import find_assets
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.scenes.scene import Scene

TASKS = {
    "into a basket": "libero_object/6",
    "bowl onto a plate": "libero_spatial/0",
    "open a drawer": "libero_goal/0",
    "turn a knob": "libero_goal/7",
    "close a door": "libero_90/33",
    "book into a slot": "libero_90/75",
}
EPISODES, POINTS, CLEAR, SAME = 24, 50, 0.3, 1e-6


def main() -> None:
    """Runs, measures, plots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("experiments/results/diversity"))
    arguments = parser.parse_args()
    cache = cache_folder()
    assets = find_assets(arguments.assets, cache=cache)
    figure, axes = plt.subplots(2, len(TASKS), figsize=(3 * len(TASKS), 6), sharex="col", sharey="col")
    report = {}
    for column, (kind, task) in enumerate(TASKS.items()):
        scene = load_scene(task, assets, cache)
        report[task] = {"kind": kind}
        for row, manner in enumerate(("clean", "human-like")):
            paths = record(scene, clean=manner == "clean")
            labels, silhouette = clusters(paths)
            modes = int(labels.max()) + 1 if silhouette > CLEAR else 1
            report[task][manner] = {
                "episodes": len(paths),
                "spread_mm": 1000 * spread(paths),
                "modes": modes,
                "silhouette": silhouette,
                "sizes": np.bincount(labels).tolist(),
            }
            draw(axes[row, column], paths, labels if modes > 1 else np.zeros(len(paths), int))
            axes[row, column].set_title(f"{kind}, {manner}", fontsize=9)
        print(task, report[task], flush=True)
    axes[1, 0].set_xlabel("y, m")
    axes[1, 0].set_ylabel("z, m")
    figure.tight_layout()
    arguments.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out / "paths.png", dpi=80)
    write_json(arguments.out / "diversity.json", report)


def record(scene: Scene, *, clean: bool) -> np.ndarray:
    """Returns the end effector's paths of successes from one initial state, `[N, 50, 3]`, metres."""
    trials = [Trial(0, seed) for seed in range(EPISODES)]
    options = {"split": "heldout", "source": "scripted", "width": EPISODES, "physics": "fast"}
    [episodes] = run_episodes(scene, ScriptedExpert(scene, clean=clean), trials, **options)
    observer = Observer(scene)
    return np.stack([resampled(observer(episode.states).robot.position) for episode in episodes if episode.success])


def resampled(path: np.ndarray) -> np.ndarray:
    """Returns a path at 50 equally spaced times."""
    moments = np.linspace(0, len(path) - 1, POINTS)
    return np.stack([np.interp(moments, np.arange(len(path)), axis) for axis in path.T], axis=1)


def spread(paths: np.ndarray) -> float:
    """Returns the mean distance of a path's points from the mean path, metres."""
    return float(np.linalg.norm(paths - paths.mean(axis=0), axis=2).mean())


def clusters(paths: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the labels of the clustering with the highest mean silhouette, and that silhouette."""
    flat = paths.reshape(len(paths), -1)
    if np.ptp(flat, axis=0).max() < SAME:
        return np.zeros(len(paths), int), 0.0
    found = []
    for count in (2, 3, 4):
        _, labels = kmeans2(flat, count, minit="++", rng=np.random.default_rng(0))
        if len(np.unique(labels)) == count:
            found.append((silhouette(flat, labels), count, labels))
    best = max(found, key=lambda entry: entry[:2], default=(0.0, 1, np.zeros(len(paths), int)))
    return best[2], float(best[0])


def silhouette(points: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean over points of (distance to the next cluster - distance within) / the larger of the two."""
    distance = cdist(points, points)
    values = []
    for index, label in enumerate(labels):
        own = (labels == label) & (np.arange(len(labels)) != index)
        if not own.any():
            values.append(0.0)
            continue
        inside = distance[index, own].mean()
        outside = min(distance[index, labels == other].mean() for other in set(labels.tolist()) - {label})
        values.append((outside - inside) / max(inside, outside, 1e-12))
    return float(np.mean(values))


def draw(axis: plt.Axes, paths: np.ndarray, labels: np.ndarray) -> None:
    """Draws paths as seen from the front, one color for each cluster."""
    for path, label in zip(paths, labels, strict=True):
        axis.plot(path[:, 1], path[:, 2], color=f"C{label}", lw=0.8, alpha=0.7)


if __name__ == "__main__":
    main()
