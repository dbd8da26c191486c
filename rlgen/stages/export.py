"""`rlgen export`: pictures drawn from the recorded states, and the RLDS dataset."""

from pathlib import Path
from typing import Any

from rlgen.data.initial_states import write_initial_states
from rlgen.data.rlds import export_rlds, write_card
from rlgen.datasets.card_facts import VIEWS, quality_facts, replay_facts, source_facts, world_facts
from rlgen.datasets.checked import Candidate, Checker, content_hash
from rlgen.datasets.drawn import Drawing, DrawnEpisodes, Prepared
from rlgen.datasets.sources import find_episode_files
from rlgen.libero.camera import find_gl
from rlgen.stages.context import Context, Work

VERSION = "1.0.0"
# Collection ran in exact physics, and its actions are exported as they were.
CHECKER = Checker(mode="off")


def _how_it_is_drawn(view: str) -> str:
    if view == "benchmark":
        return f"drawing the benchmark's view with GL library {find_gl()}"
    return "compiling the rasteriser of the fast view, which needs no GL library (up to 30 s the first time)"


def run(context: Context, work: Work) -> dict[str, Any]:
    """Writes `export/<suite>_no_noops/1.0.0` with its card."""
    config, scene = context.run.config, context.scene
    candidates = _candidates(context)
    work.progress.total = len(candidates)
    work.progress.say(_how_it_is_drawn(config.export.view))
    drawing = Drawing(config.export.view, config.export.size, config.threads)
    drawn = DrawnEpisodes(Prepared(candidates, CHECKER, lambda task: scene), drawing)
    done = 0

    def tell(stored: int, total: int) -> None:
        nonlocal done
        work.progress.update(advance=stored - done, note=f"{stored} of {total} episodes")
        done = stored
        work.clock.save()

    def finish(folder: Path) -> None:
        write_initial_states(folder, [candidate.initial_state for candidate in candidates])
        facts = source_facts(candidates) | world_facts({"label": scene.assets}, drawing)
        facts |= {"replay": replay_facts(candidates, candidates, CHECKER.mode), "quality": quality_facts(folder)}
        write_card(folder, facts)

    directory = export_rlds(
        work.folder,
        f"{scene.task.suite}_no_noops",
        drawn,
        size=config.export.size,
        version=VERSION,
        description=f"Diffusion-RL data of {scene.task.id}. Pictures: {VIEWS[config.export.view]}. "
        f"Assets: {scene.assets}.",
        shards=config.export.shards,
        fingerprint=content_hash([str(drawing.view), *(candidate.verdict.digest for candidate in candidates)]),
        overwrite=True,
        workers=config.threads,
        progress=tell,
        finish=finish,
    )
    _journal(context).unlink(missing_ok=True)
    steps = sum(candidate.verdict.steps for candidate in candidates)
    return {"path": str(directory.relative_to(context.run.folder)), "episodes": len(candidates), "steps": steps}


def dataset_folder(context: Context) -> Path:
    """The exported dataset."""
    return context.run.folder / context.run.result("export")["path"]


def _candidates(context: Context) -> list[Candidate]:
    """The collected successes, in order."""
    [file] = find_episode_files(context.run.folder)
    return CHECKER.candidates(file, context.scene, _journal(context))


def _journal(context: Context) -> Path:
    return context.run.folder / "export" / ".checked.jsonl"
