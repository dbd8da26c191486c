"""Stage `export`: the collected episodes, replayed and with images rendered from their states, as an RLDS dataset."""

from pathlib import Path
from typing import Any

from rlgen.curation.export import ExportOptions, export_paths
from rlgen.curation.render import RenderOptions
from rlgen.curation.validate import Validator
from rlgen.data.index import read_index
from rlgen.libero.rendering.opengl import find_gl
from rlgen.pipeline.context import Context, Work


def run(context: Context, work: Work) -> dict[str, Any]:
    """Writes `export/<suite>_no_noops/1.0.0` with its card."""
    config, scene = context.run.config, context.scene
    work.progress.log(_preparation(config.export.renderer))
    options = ExportOptions(
        out=work.folder,
        shards=config.export.shards,
        overwrite=True,
        rendering=RenderOptions(config.export.renderer, config.export.image_size, config.workers),
        validator=Validator(threads=config.workers),
    )
    stored = 0

    def on_progress(message: str, count: int, total: int) -> None:
        """Counts the episodes that are stored; those that are validated before have no total."""
        nonlocal stored
        advance = count - stored if total else 0
        work.progress.total = total or None
        work.progress.update(advance=advance, note=f"{count} of {total} episodes" if total else message)
        stored += advance
        work.clock.save()

    assets = {"label": scene.assets}
    [folder] = export_paths([context.run.folder], options, lambda task: scene, assets, on_progress)
    episodes = read_index(folder)
    path = str(folder.relative_to(context.run.folder))
    return {"path": path, "episodes": len(episodes), "steps": sum(episode.steps for episode in episodes)}


def dataset_folder(context: Context) -> Path:
    """Returns the folder of the exported dataset."""
    return context.run.folder / context.run.result("export")["path"]


def _preparation(renderer: str) -> str:
    if renderer == "benchmark":
        return f"rendering with the benchmark's renderer and GL library {find_gl()}"
    return "compiling the fast renderer, which needs no GL library (up to 30 s the first time)"
