"""`rlgen quality`: demonstrations beside RL data: length, no-ops, jerk, action spread over time."""

from typing import Any

from rlgen.core.files import write_json
from rlgen.data.metrics.quality import DatasetQuality, recorded_quality
from rlgen.libero.envs.observations import Observer
from rlgen.pipeline.bc import read_demonstrations
from rlgen.pipeline.collect import load_collected
from rlgen.pipeline.context import Context, Work
from rlgen.report import style
from rlgen.report.quality_plots import SourceQuality, Spread, action_spread, end_effector_paths, quality_bars

# Action number of the y axis, which the paper's figure 7 shows.
Y_AXIS = 1
PATHS_SHOWN = 40


def run(context: Context, work: Work) -> dict[str, Any]:
    """Measures both sources and draws the paper's figures 6 and 7 of them."""
    observer = Observer(context.scene)
    sources = {"demonstrator": read_demonstrations(context), "ppo": load_collected(context)}
    robots = {name: [observer(e.states).robot for e in episodes] for name, episodes in sources.items()}
    measured: dict[str, DatasetQuality] = {}
    for name, episodes in sources.items():
        measured[name] = recorded_quality(episodes, robots[name])
        work.progress.update(note=name)
    values = {name: quality.to_json() for name, quality in measured.items()}
    write_json(work.folder / "quality.json", values)
    bars = {name: SourceQuality.from_json(value) for name, value in values.items()}
    spreads = {
        name: Spread.from_json(value["spread"], action=Y_AXIS, episodes=value["episodes"])
        for name, value in values.items()
    }
    paths = {name: [robot.position for robot in robots[name][:PATHS_SHOWN]] for name in sources}
    style.save(quality_bars(bars), work.folder / "quality.png")
    style.save(action_spread(spreads, action="y"), work.folder / "spread.png")
    style.save(end_effector_paths(paths), work.folder / "paths.png")
    return {name: summary(value) for name, value in values.items()}


def summary(value: dict[str, Any]) -> dict[str, Any]:
    """The figures of one source without its single episodes."""
    kept = {key: entry for key, entry in value.items() if key not in ("each", "spread")}
    return {**kept, "action_spread": value["spread"]["average"]}
