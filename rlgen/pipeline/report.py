"""Stage `report`: `summary.json` and the page `report.html`, from the results of the other stages."""

import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np

from rlgen.configs.stored import to_json
from rlgen.core.files import read_json, write_json
from rlgen.core.ownership import check_file, has_keys, read_record
from rlgen.core.stats import SuccessRate
from rlgen.core.text import date_and_time
from rlgen.curation.card import RENDERER_NOTES, package_versions
from rlgen.data.images import flip_vertical
from rlgen.libero.rendering.pool import RenderPool
from rlgen.pipeline.context import Context, Work
from rlgen.pipeline.evaluate import ACTORS, first_episode
from rlgen.pipeline.stages import STAGES
from rlgen.report import plots
from rlgen.report.pages import FigureFile, is_page
from rlgen.report.quality_plots import SourceQuality
from rlgen.report.run_page import Assets, Clip, Dataset, InitialStates, ReportData, StageTime, changes, render_report
from rlgen.report.style import save
from rlgen.report.video import clip_name, write_gif
from rlgen.training.metrics import read_metrics

SCRIPTED = "scripted demonstrations, successes only"
CLIP_SIZE = 192  # pixels
CLIP_EVERY = 2  # one frame of so many control steps
CONTROL_HZ = 20.0
NOTES = (
    "The expert observes the physics state (the robot and the poses of the goal's object and region); the VLA observes "
    "two images, the robot's own state and the instruction.",
    "No actor was trained on the benchmark's stored initial states; training used reset states sampled from the "
    "task's BDDL regions by the benchmark's own samplers.",
    "One task, one seed: an interval says how certain the success rate of this run is, not how much runs differ.",
)


def run(context: Context, work: Work) -> dict[str, Any]:
    """Writes `summary.json` and `report.html` into the run's directory."""
    folder = context.run.folder
    check_file(folder / "report.html", is_page, noun="a report", option="--run")
    check_file(folder / "summary.json", _is_summary, noun="a summary", option="--run")
    summary = make_summary(context)
    work.progress.log("rendering one episode of each actor")
    clips = _write_clips(context, work.folder)
    figures = _write_figures(context, work.folder)
    write_json(folder / "summary.json", summary)
    render_report(_page_content(context, summary, clips, figures), folder / "report.html")
    work.progress.log(f"{folder / 'report.html'} and {folder / 'summary.json'} are written")
    return {"report": "report.html", "summary": "summary.json"}


def _is_summary(path: Path) -> bool:
    return has_keys(read_record(path), "task", "prompt", "dataset")


def make_summary(context: Context) -> dict[str, Any]:
    """Returns the results of a run as JSON values."""
    run, scene = context.run, context.scene
    evaluation, export = run.result("evaluate"), run.result("export")
    quality = {k: v for k, v in run.result("quality").items() if k != "seconds"}
    return {
        "task": scene.task.id,
        "prompt": scene.task.prompt,
        "demonstrations": _demonstrations(run.result("demos")),
        **evaluation["rates"],
        **({"change": changed} if (changed := _change(context)) else {}),
        "protocol": evaluation["protocol"],
        "dataset": {key: export[key] for key in ("path", "episodes", "steps")},
        "quality": quality,
        "seconds": {stage: round(run.seconds(stage), 1) for stage in STAGES if run.done(stage)},
        "versions": package_versions(),
        "assets": run.assets["label"],
        "initial_states": {
            scene.training_split: f"{len(scene.training_states)} reset states {_DRAWN[scene.resets]}",
            "heldout": f"stored states 0-{len(scene.stored_states) - 1}",
        },
        "machine": machine(),
        "config": to_json(run.config),
    }


def _change(context: Context) -> dict[str, Any] | None:
    """Returns what PPO changed against the clone; None in runs of earlier versions."""
    return context.run.result("evaluate").get("change") or context.run.result("ppo").get("change")


_DRAWN = {"standard": "sampled from the BDDL regions", "wide": "with wide resets, beyond the BDDL regions"}


def _demonstrations(result: dict[str, Any]) -> str:
    return f"demonstrations from {result['source']}, successes only" if "source" in result else SCRIPTED


def machine() -> dict[str, str | int]:
    """Returns processor, cores and operating system."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {"CPU": model, "cores": os.cpu_count() or 1, "system": platform.system()}


def _write_clips(context: Context, folder: Path) -> list[Clip]:
    """Writes the first evaluated episode of each actor as a GIF."""
    clips = []
    workers = context.run.config.workers
    with RenderPool(context.scene, cameras=("agentview",), image_size=CLIP_SIZE, workers=workers) as pool:
        for name in ACTORS:
            episode = first_episode(context, name)
            if episode is None:
                clips.append(Clip(name, None))
                continue
            path = folder / clip_name(name, episode.task, episode.seed, episode.success)
            caption = f"stored state {episode.initial_index}, {len(episode)} steps"
            write_gif(
                path,
                flip_vertical(pool.render(episode.states[::CLIP_EVERY], fixtures=episode.fixtures)[:, 0]),
                caption=caption,
                success=episode.success,
                size=CLIP_SIZE,
                every=1,
                control_hz=CONTROL_HZ / CLIP_EVERY,
            )
            clips.append(Clip(name, path, caption, episode.success))
    return clips


def _write_figures(context: Context, folder: Path) -> list[FigureFile]:
    run, quality = context.run, context.run.folder / "quality"
    rates = {name: SuccessRate.from_json(rate) for name, rate in run.result("evaluate")["rates"].items()}
    success = save(plots.success_bars(rates), folder / "success.png")
    learning = save(plots.learning_curve(_learning_curve(run.folder / "ppo")), folder / "learning.png")
    curves = {name: _loss_curve(run.folder / stage) for name, stage in (("bc", "bc"), ("vla", "vla-train"))}
    losses = save(plots.loss_curves(curves), folder / "losses.png")
    return [
        FigureFile(success, "Success", "On the stored initial states; bars are Wilson intervals.", "success"),
        FigureFile(learning, "PPO", "Success and clip fraction over control steps.", "training"),
        FigureFile(losses, "Losses", "Behavior cloning and the VLA.", "training"),
        FigureFile(
            quality / "quality.png",
            "Quality",
            "Length, jerk and no-ops of the sources (the paper's figure 6).",
            "data",
        ),
        FigureFile(
            quality / "spread.png", "Consistency", "The y action over normalized time (the paper's figure 7).", "data"
        ),
        FigureFile(quality / "paths.png", "Paths", "End-effector paths of the sources.", "data"),
    ]


def _learning_curve(stage: Path) -> plots.LearningCurve:
    lines = read_metrics(stage / "metrics.jsonl")
    evaluated = [line for line in lines if "test" in line]
    return plots.LearningCurve(
        control_steps=np.array([line["control_steps"] for line in lines]),
        train_success=np.array([line["success"] for line in lines]),
        clip_fraction=np.array([line["clip_fraction"] for line in lines]),
        test_steps=np.array([line["control_steps"] for line in evaluated]),
        test_rates=[SuccessRate.from_json(line["test"]) for line in evaluated],
        test_label="without noise, training reset states",
    )


def _loss_curve(stage: Path) -> plots.LossCurve:
    lines = read_metrics(stage / "metrics.jsonl")
    return plots.LossCurve(np.array([line["step"] for line in lines]), np.array([line["loss"] for line in lines]))


def _page_content(
    context: Context, summary: dict[str, Any], clips: list[Clip], figures: list[FigureFile]
) -> ReportData:
    run, config, dataset = context.run, context.run.config, summary["dataset"]
    quality = read_json(run.folder / "quality" / "quality.json")
    return ReportData(
        title=f"rlgen: {summary['prompt']}",
        task=summary["task"],
        prompt=summary["prompt"],
        created=date_and_time(time.time()),
        command=f"rlgen quickstart --task {summary['task']} --seed {config.seed}",
        rates={name: SuccessRate.from_json(summary[name]) if name in summary else None for name in ACTORS},
        assets=Assets(placeholders=run.assets["kind"] == "placeholder", detail=run.assets["label"]),
        initial_states=InitialStates(**summary["initial_states"]),
        stages=_stage_times(context, summary["demonstrations"]),
        figures=figures,
        clips=clips,
        quality={name: SourceQuality.from_json(value) for name, value in quality.items()},
        changes=changes(summary.get("change") or {}),
        dataset=Dataset(
            path=dataset["path"],
            episodes=dataset["episodes"],
            steps=dataset["steps"],
            image=f"{config.export.image_size} x {config.export.image_size}",
            renderer=RENDERER_NOTES[config.export.renderer],
            byte_count=sum(file.stat().st_size for file in (run.folder / dataset["path"]).iterdir()),
        ),
        versions=summary["versions"],
        machine=summary["machine"],
        config=summary["config"],
        notes=NOTES,
    )


def _stage_times(context: Context, demonstrations: str) -> list[StageTime]:
    run = context.run
    times = []
    for name, stage in STAGES.items():
        if name != "report":
            description = demonstrations if name == "demos" else stage.help
            times.append(StageTime(name, description, run.seconds(name), _stage_note(name, run.result(name))))
    return times


def _stage_note(stage: str, result: dict[str, Any]) -> str:
    if stage in ("demos", "collect"):
        return f"{result['episodes']} of {result['tried']} tried, {result['mean_length']:.0f} steps on average"
    if stage in ("bc", "vla-train"):
        return f"{result['steps']} steps, {result['parameters']:,} parameters"
    if stage == "ppo":
        return f"{result['iterations']} iterations, {result['control_steps']:,} control steps"
    if stage == "export":
        return f"{result['episodes']} episodes, {result['steps']:,} steps"
    return ""
