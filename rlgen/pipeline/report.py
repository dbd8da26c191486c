"""`rlgen report`: `summary.json` and the page, from what the other stages left."""

import datetime
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from rlgen.configs.schema import to_json
from rlgen.core.files import read_json, write_json
from rlgen.core.stats import SuccessRate
from rlgen.curation.card import VIEWS, package_versions
from rlgen.data.images import flip_vertical
from rlgen.libero.rendering.pool import RenderPool
from rlgen.pipeline.context import Context, Work
from rlgen.pipeline.evaluate import ACTORS, first_episode
from rlgen.pipeline.stages import STAGES
from rlgen.report import plots, style
from rlgen.report.html import Assets, Clip, Dataset, FigureFile, InitialStates, ReportData, StageTime, render_report
from rlgen.report.quality_plots import SourceQuality
from rlgen.report.video import clip_name, write_gif
from rlgen.training.metrics import read_metrics

SCRIPTED = "scripted demonstrations, successes only"
WHAT = {
    "demos": SCRIPTED,
    "bc": "behaviour cloning of the diffusion policy",
    "ppo": "PPO over the 5-step denoising chain",
    "collect": "successes of the expert, deterministic chain",
    "export": "pictures drawn, RLDS written",
    "quality": "demonstrations beside RL data",
    "vla-train": "flow VLA on the exported dataset alone",
    "evaluate": "every actor on the stored initial states",
}
CLIP_SIZE = 192
EVERY = 2
CONTROL_HZ = 20.0
NOTES = (
    "The expert sees physics state (the robot and the poses of the goal's object and region); the VLA sees two "
    "pictures, the robot's own state and the instruction.",
    "No actor was trained on the benchmark's stored initial states; training used placements sampled from the "
    "task's BDDL regions by the benchmark's own samplers.",
    "One task, one seed: an interval says how sure the success rate of this run is, not how much runs differ.",
)


def run(context: Context, work: Work) -> dict[str, Any]:
    """Writes `summary.json` and `report.html` into the run's directory."""
    folder = context.run.folder
    summary = make_summary(context)
    work.progress.log("drawing one episode of each actor")
    clips = _draw_clips(context, work.folder)
    figures = _draw_figures(context, work.folder)
    write_json(folder / "summary.json", summary)
    render_report(_contents(context, summary, clips, figures), folder / "report.html")
    work.progress.log(f"{folder / 'report.html'} and {folder / 'summary.json'} are written")
    return {"report": "report.html", "summary": "summary.json"}


def make_summary(context: Context) -> dict[str, Any]:
    """What the run came to, as JSON."""
    run, scene = context.run, context.scene
    evaluation, export = run.result("evaluate"), run.result("export")
    quality = {k: v for k, v in run.result("quality").items() if k != "seconds"}
    return {
        "task": scene.task.id,
        "prompt": scene.task.prompt,
        "demonstrations": _demonstrations(run.result("demos")),
        **evaluation["rates"],
        "protocol": evaluation["protocol"],
        "dataset": {key: export[key] for key in ("path", "episodes", "steps")},
        "quality": quality,
        "seconds": {stage: round(run.seconds(stage), 1) for stage in STAGES if run.done(stage)},
        "versions": package_versions(),
        "assets": run.assets["label"],
        "initial_states": {
            "train": f"{len(scene.placements)} placements sampled from the BDDL regions",
            "heldout": f"stored states 0-{len(scene.stored) - 1}",
        },
        "machine": machine(),
        "config": to_json(run.config),
    }


def _demonstrations(result: dict[str, Any]) -> str:
    """Where they come from."""
    return f"demonstrations from {result['source']}, successes only" if "source" in result else SCRIPTED


def _rate(value: dict[str, Any] | None) -> SuccessRate | None:
    return None if value is None else SuccessRate.from_json(value)


def machine() -> dict[str, str | int]:
    """Processor, cores and memory."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {"CPU": model, "cores": os.cpu_count() or 1, "system": platform.system()}


def _draw_clips(context: Context, folder: Path) -> list[Clip]:
    """The first evaluated episode of each actor as a GIF."""
    episodes = {name: first_episode(context, name) for name in ACTORS}
    shown = {name: episode for name, episode in episodes.items() if episode is not None}
    clips = {name: Clip(name, None) for name in ACTORS}
    workers = context.run.config.workers
    with RenderPool(context.scene, cameras=("agentview",), image_size=CLIP_SIZE, workers=workers) as pool:
        for name, episode in shown.items():
            path = folder / clip_name(name, episode.task, episode.seed, episode.success)
            caption = f"stored state {episode.initial_index}, {len(episode)} steps"
            write_gif(
                path,
                flip_vertical(pool.render(episode.states[::EVERY])[:, 0]),
                caption=caption,
                success=episode.success,
                size=CLIP_SIZE,
                every=1,
                control_hz=CONTROL_HZ / EVERY,
            )
            clips[name] = Clip(name, path, caption, episode.success)
    return list(clips.values())


def _draw_figures(context: Context, folder: Path) -> list[FigureFile]:
    run = context.run.folder
    rates = {name: SuccessRate.from_json(rate) for name, rate in context.run.result("evaluate")["rates"].items()}
    style.save(plots.success_bars(rates), folder / "success.png")
    lines = read_metrics(run / "ppo" / "metrics.jsonl")
    tested = [line for line in lines if "test" in line]
    curve = plots.LearningCurve(
        control_steps=np.array([line["control_steps"] for line in lines]),
        train_success=np.array([line["success"] for line in lines]),
        clip_fraction=np.array([line["clip_fraction"] for line in lines]),
        test_steps=np.array([line["control_steps"] for line in tested]),
        test_rates=[SuccessRate.from_json(line["test"]) for line in tested],
        test_label="deterministic chain, training placements",
    )
    style.save(plots.learning_curve(curve), folder / "learning.png")
    losses = {}
    for name, stage in (("bc", "bc"), ("vla", "vla-train")):
        points = read_metrics(run / stage / "metrics.jsonl")
        losses[name] = plots.LossCurve(
            np.array([line["step"] for line in points]), np.array([line["loss"] for line in points])
        )
    style.save(plots.loss_curves(losses), folder / "losses.png")
    quality = run / "quality"
    return [
        FigureFile(
            folder / "success.png",
            "Success",
            "On the stored initial states; bars are Wilson intervals.",
            "success",
        ),
        FigureFile(folder / "learning.png", "PPO", "Success and clip fraction over control steps.", "training"),
        FigureFile(folder / "losses.png", "Losses", "Behaviour cloning and the VLA.", "training"),
        FigureFile(
            quality / "quality.png",
            "Quality",
            "Length, jerk and no-ops of both sources (the paper's figure 6).",
            "data",
        ),
        FigureFile(
            quality / "spread.png",
            "Consistency",
            "The y action over normalised time (the paper's figure 7).",
            "data",
        ),
        FigureFile(quality / "paths.png", "Paths", "End-effector paths of both sources.", "data"),
    ]


def _contents(context: Context, summary: dict[str, Any], clips: list[Clip], figures: list[FigureFile]) -> ReportData:
    run, config = context.run, context.run.config
    quality = read_json(run.folder / "quality" / "quality.json")
    notes = {stage: _stage_note(stage, run.result(stage)) for stage in WHAT}
    what = {**WHAT, "demos": summary["demonstrations"]}
    dataset = run.folder / summary["dataset"]["path"]
    return ReportData(
        title=f"rlgen: {summary['prompt']}",
        task=summary["task"],
        prompt=summary["prompt"],
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=f"rlgen quickstart --task {summary['task']} --seed {config.seed}",
        rates={name: _rate(summary.get(name)) for name in ACTORS},
        assets=Assets(stand_ins=run.assets["kind"] == "stand-in", detail=run.assets["label"]),
        initial_states=InitialStates(**summary["initial_states"]),
        stages=[StageTime(name, text, run.seconds(name), notes[name]) for name, text in what.items()],
        figures=figures,
        clips=clips,
        quality={name: SourceQuality.from_json(value) for name, value in quality.items()},
        dataset=Dataset(
            path=summary["dataset"]["path"],
            episodes=summary["dataset"]["episodes"],
            steps=summary["dataset"]["steps"],
            image=f"{config.export.image_size} x {config.export.image_size}",
            view=VIEWS[config.export.renderer],
            byte_count=sum(file.stat().st_size for file in dataset.iterdir()),
        ),
        versions=summary["versions"],
        machine=summary["machine"],
        config=summary["config"],
        notes=NOTES,
    )


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
