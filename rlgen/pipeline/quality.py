"""Stage `quality`: metrics of the demonstrations and of the collected episodes, and the paper's figures of them."""

from typing import Any

from rlgen.core.files import write_json
from rlgen.data.metrics.quality import DatasetQuality, recorded_quality
from rlgen.libero.envs.observations import Observer
from rlgen.pipeline.bc import read_demonstrations
from rlgen.pipeline.collect import load_all_collected
from rlgen.pipeline.context import Context, Work
from rlgen.report.quality_plots import ActionProfile, SourceQuality, action_profiles, end_effector_paths, quality_bars
from rlgen.report.style import save

# Index of the y action, which the paper's figure 7 shows.
Y_AXIS = 1
PATHS_SHOWN = 40


def run(context: Context, work: Work) -> dict[str, Any]:
    """Measures all sources, plots the paper's figures 6 and 7 of them, and says what PPO changed against the clone."""
    observer = Observer(context.scene)
    sources = {"demonstrator": read_demonstrations(context), **load_all_collected(context)}
    robots = {name: [observer(e.states).robot for e in episodes] for name, episodes in sources.items()}
    measured: dict[str, DatasetQuality] = {}
    for name, episodes in sources.items():
        measured[name] = recorded_quality(episodes, robots[name])
        work.progress.update(note=name)
    values = {name: quality.to_json() for name, quality in measured.items()}
    write_json(work.folder / "quality.json", values)
    bars = {name: SourceQuality.from_json(value) for name, value in values.items()}
    profiles = {
        name: ActionProfile.from_json(value["spread"], action=Y_AXIS, episodes=value["episodes"])
        for name, value in values.items()
    }
    paths = {name: [robot.position for robot in robots[name][:PATHS_SHOWN]] for name in sources}
    save(quality_bars(bars), work.folder / "quality.png")
    save(action_profiles(profiles, action="y"), work.folder / "spread.png")
    save(end_effector_paths(paths), work.folder / "paths.png")
    # A clone's episodes may have been collected without any PPO.
    changed = context.run.result("ppo").get("change") if context.run.done("ppo") else None
    return {name: quality.summary() for name, quality in measured.items()} | ({"change": changed} if changed else {})
