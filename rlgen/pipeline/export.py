"""`rlgen export --run`: the collected successes, replayed and drawn from their states, as an RLDS dataset."""

from pathlib import Path
from typing import Any

from rlgen.curation.export import ExportOptions, export_paths
from rlgen.curation.render import RenderOptions
from rlgen.curation.validate import Validator
from rlgen.data.index import read_index
from rlgen.libero.rendering.gl import find_gl
from rlgen.pipeline.context import Context, Work


def run(context: Context, work: Work) -> dict[str, Any]:
    """Writes `export/<suite>_no_noops/1.0.0` with its card."""
    config, scene = context.run.config, context.scene
    work.progress.log(_how_it_is_drawn(config.export.renderer))
    options = ExportOptions(
        out=work.folder,
        shards=config.export.shards,
        overwrite=True,
        drawing=RenderOptions(config.export.renderer, config.export.image_size, config.workers),
        checker=Validator(threads=config.workers),
    )
    done = 0

    def tell(words: str, count: int, total: int) -> None:
        """Episodes that are stored are counted; those looked at before have no total."""
        nonlocal done
        advance = count - done if total else 0
        work.progress.total = total or None
        work.progress.update(advance=advance, note=f"{count} of {total} episodes" if total else words)
        done += advance
        work.clock.save()

    [folder] = export_paths([context.run.folder], options, lambda task: scene, {"label": scene.assets}, tell)
    episodes = read_index(folder)
    path = str(folder.relative_to(context.run.folder))
    return {"path": path, "episodes": len(episodes), "steps": sum(episode.steps for episode in episodes)}


def dataset_folder(context: Context) -> Path:
    """The exported dataset."""
    return context.run.folder / context.run.result("export")["path"]


def _how_it_is_drawn(view: str) -> str:
    if view == "benchmark":
        return f"drawing the benchmark's view with GL library {find_gl()}"
    return "compiling the rasteriser of the fast view, which needs no GL library (up to 30 s the first time)"
