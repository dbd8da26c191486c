"""Seconds of a PPO iteration whose environments take turns in groups, compared with all in one group.

Command:  uv run python experiments/overlap.py --assets DIR [--groups 1 2] [--iterations 5] [--json FILE]
Cost:     five minutes on two cores.
Expected: on two cores little: environments, renderer, sampler and update share them. What is gained is the time in
          which a core waits for the last environment of a chunk.

Preset `state` and preset `narrow` (two cameras of 84²), with fresh policies; one iteration of each number of groups in
turn, the first of each not counted. On an accelerator, `--threads 16` and more `--environments` show what it waits for.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from rlgen.bench.iteration import measure_scene, summary
from rlgen.bench.timing import describe
from rlgen.configs.presets import expert_presets, fit_to
from rlgen.core.files import write_json
from rlgen.core.process import cache_folder
from rlgen.libero.scenes.assets import find_assets
from rlgen.libero.scenes.bundles import load_scene

RESULTS = Path(__file__).resolve().parent / "results" / "speed" / "overlap.json"


def main() -> None:
    """Times the iterations and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="libero_object/6")
    parser.add_argument("--assets", type=Path, help="the benchmark's own assets; placeholder assets by default")
    parser.add_argument("--groups", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--iterations", type=int, default=5, help="that count")
    parser.add_argument("--environments", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    cache = cache_folder()
    assets = find_assets(arguments.assets, placeholders=arguments.assets is None, cache=cache)
    scene = load_scene(arguments.task, assets, cache)
    report = {
        **describe(),
        "task": arguments.task,
        "environments": arguments.environments,
        "threads": arguments.threads,
    }
    for name in ("state", "narrow"):
        config = fit_to(expert_presets()[name], scene.task.horizon)
        config = replace(config, ppo=replace(config.ppo, environments=arguments.environments))
        options = {"threads": arguments.threads, "groups": arguments.groups, "iterations": arguments.iterations}
        measured = measure_scene(scene, config, **options)
        report[name] = {str(groups): summary(iterations) for groups, iterations in measured.items()}
        for groups, seconds in report[name].items():
            share = seconds["accelerator"]["median"] / seconds["total"]["median"]
            print(
                f"{name}, groups {groups}: {seconds['total']['median']:.2f} s, sampler and update {100 * share:.0f} %"
            )
    write_json(arguments.json, report)


if __name__ == "__main__":
    main()
