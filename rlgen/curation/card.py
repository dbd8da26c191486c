"""The facts on the card of an exported dataset: its episodes, their replay, their origin, and their quality.

The keys and texts are stored in datasets (`rlgen.data.card`), so they do not change.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mujoco

from rlgen.core.stats import SuccessRate
from rlgen.core.types import FixturePoses
from rlgen.curation.render import RenderOptions
from rlgen.curation.validate import Candidate, ReplayMode
from rlgen.data.card import read_card, write_card
from rlgen.data.dataset import open_dataset
from rlgen.data.index import FIXTURES, Provenance
from rlgen.data.metrics.quality import dataset_quality

LICENCE = "CC BY 4.0 (LIBERO's scenes and objects are CC BY 4.0)"
RENDERER_NOTES = {
    "fast": "fast view: simplified triangles without shadows or gloss; not the benchmark's own pixels",
    "benchmark": "the benchmark's own renderer",
    "warp": "a ray tracer on a GPU (MuJoCo Warp); not the benchmark's own pixels",
}
_REPLAY_NOTES = {
    "drop": "replayed in exact physics from the initial state; those that fail are left out",
    "label": "replayed in exact physics from the initial state; those that fail are listed",
    "off": "not replayed",
}
_MAX_RANGES = 20
# Key of the tasks that a dataset was meant to hold and does not.
MISSING = "missing_tasks"
# Key of what the actions are: relative, as LIBERO's, or absolute. Trainings ask for it.
SEMANTICS = "action_semantics"


def source_facts(candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Returns the tasks, policies, success rates, initial states and seeds of the exported episodes.

    Where a task has several policies, as from two runs of it, their rates begin with their place among `policy`.
    """
    files = list({id(c.file): c.file for c in candidates}.values())
    policies = Counter(file.task.id for file in files)
    names = [
        file.task.id if policies[file.task.id] == 1 else f"{place}: {file.task.id}"
        for place, file in enumerate(files, start=1)
    ]
    tasks: dict[str, Counter] = {}
    states: dict[str, set[int]] = {}
    seeds: set[int] = set()
    for candidate in candidates:
        task = candidate.file.task.id
        tasks.setdefault(task, Counter()).update(episodes=1, steps=candidate.validation.steps)
        states.setdefault(f"{task} {candidate.split}", set()).add(candidate.initial_index)
        seeds.add(candidate.seed)
    return {
        "tasks": {task: dict(counts) for task, counts in tasks.items()},
        "policy": [{"task": file.task.id, **file.policy} for file in files],
        "success_rate": {name: success_rate(file.policy) for name, file in zip(names, files, strict=True)},
        "initial_states": {name: ranges(indices) for name, indices in states.items()},
        "seeds": {"episodes": ranges(seeds)},
    }


def fixture_facts(fixtures: Sequence[FixturePoses | None]) -> dict[str, Any]:
    """Returns in how many episodes the fixtures were redrawn; nothing on cards where they were fixed in all."""
    redrawn = sum(poses is not None for poses in fixtures)
    return {"fixtures": f"redrawn in {redrawn} of {len(fixtures)} episodes; {FIXTURES}"} if redrawn else {}


def reset_facts(splits: Sequence[str]) -> dict[str, Any]:
    """Returns in how many episodes the resets were wide; nothing on cards where they were so in none."""
    wide = splits.count("wide")
    moved = "objects and the robot moved beyond the task's own regions before the start"
    return {"resets": f"wide in {wide} of {len(splits)} episodes: {moved}"} if wide else {}


def note_missing_tasks(folder: Path, missing: Mapping[str, str]) -> None:
    """Makes the card of a dataset name the tasks that were meant to be in it and are not.

    The card is written again where it says something else; what it says of the episodes stays.

    Args:
      folder: of the dataset.
      missing: the reason for each such task, by its id; the card of a dataset that lacks none has no word of it.

    Raises:
      UserError: the dataset has no readable card, or the disk refuses.
    """
    card = read_card(folder)
    changed = {key: value for key, value in card.items() if key != MISSING} | (
        {MISSING: dict(missing)} if missing else {}
    )
    if changed != card:
        write_card(folder, changed)


def replay_facts(candidates: Sequence[Candidate], exported: Sequence[Candidate], mode: ReplayMode) -> dict[str, Any]:
    """Returns the counts of replayed, exported and omitted episodes, and the names of those that failed but are kept.

    Tasks of which no episode is left are named.

    Args:
      candidates: all validated episodes.
      exported: those of them that the dataset holds.
      mode: of the validator.
    """
    kept = set(map(id, exported))
    left_out = Counter(c.validation.problem for c in candidates if id(c) not in kept)
    labeled = [f"{c.file.path.name}: {c.name}" for c in exported if c.validation.problem]
    held = {c.file.task.id for c in exported}
    without = [task for task in dict.fromkeys(c.file.task.id for c in candidates) if task not in held]
    return {
        "how": _REPLAY_NOTES[mode],
        "recorded": len(candidates),
        "exported": len(exported),
        "succeeded": sum(c.validation.replayed for c in exported),
        "failed but kept": labeled,
        "no-ops dropped": sum(c.validation.noops for c in exported),
        "left out": dict(left_out),
        **({"tasks left out": without} if without else {}),
    }


def origin_facts(assets: Mapping[str, str], options: RenderOptions) -> dict[str, Any]:
    """Returns MuJoCo's version, assets, renderer, versions of packages, and licence."""
    return {
        "mujoco": mujoco.__version__,
        "assets": dict(assets),
        # LIBERO's actions are relative to the hand's position, not to its target.
        SEMANTICS: "relative",
        "view": RENDERER_NOTES[options.renderer],
        "versions": package_versions(),
        "licence": LICENCE,
    }


def provenance(exported: Sequence[Candidate], mode: ReplayMode, options: RenderOptions) -> list[Provenance]:
    """Returns the origin of each exported episode.

    Args:
      exported: in the order in which they are stored.
      mode: of the validator.
      options: of rendering.
    """
    physics = "recorded" if mode == "off" else "exact"
    return [
        Provenance(
            task=candidate.file.task.id,
            source=str(candidate.file.policy["actor"]),
            split=candidate.split,
            initial_index=candidate.initial_index,
            seed=candidate.seed,
            physics=physics,
            mujoco=mujoco.__version__,
            renderer=options.renderer,
            label=candidate.validation.problem if mode == "label" else None,
        )
        for candidate in exported
    ]


def quality_facts(folder: Path) -> dict[str, Any]:
    """Returns the quality of a dataset's stored episodes, so that anybody can compute it again."""
    return dataset_quality(open_dataset(folder)).summary()


def success_rate(policy: Mapping[str, Any]) -> dict[str, Any] | str:
    """Returns the success rate of a policy with its interval: of its evaluation, otherwise of the recording."""
    if policy.get("evaluated"):
        return {"on": "the stored initial states", **policy["evaluated"]}
    recorded = policy.get("recorded", {})
    if recorded.get("attempts"):
        rate = SuccessRate(min(recorded["demonstrations"], recorded["attempts"]), recorded["attempts"])
        basis = "the attempts that these episodes are the successes of"  # codespell:ignore
        return {"on": basis, **rate.to_json()}
    return "not recorded"


def ranges(values: set[int]) -> str:
    """Returns integers as ranges such as `0-3, 7`; at most 20 of them."""
    ordered, parts = sorted(values), []
    for value in ordered:
        if parts and parts[-1][1] == value - 1:
            parts[-1][1] = value
        else:
            parts.append([value, value])
    texts = [f"{first}" if first == last else f"{first}-{last}" for first, last in parts]
    more = [f"... {len(ordered)} in all"] if len(texts) > _MAX_RANGES else []
    return ", ".join([*texts[:_MAX_RANGES], *more])


def package_versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that results depend on."""
    import platform
    from importlib import metadata

    names = (
        "rlgen",
        "jax",
        "flax",
        "optax",
        "mujoco",
        "numba",
        "numpy",
        "hf-libero",
        "robosuite",
        "tensorflow-datasets",
    )
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}
