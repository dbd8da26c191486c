"""Which versions a result depends on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mujoco

from rlgen.core.stats import SuccessRate
from rlgen.curation.render import RenderOptions
from rlgen.curation.validate import Candidate, Replay
from rlgen.data.dataset import open_dataset
from rlgen.data.metrics.quality import dataset_quality


def package_versions() -> dict[str, str]:
    """Versions of what the results depend on."""
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


LICENCE = "CC BY 4.0 (LIBERO's scenes and objects are CC BY 4.0)"
VIEWS = {
    "fast": "fast view: simplified triangles without shadows or gloss; not the benchmark's own pixels",
    "benchmark": "the benchmark's own renderer",
}
_REPLAYS = {
    "drop": "replayed in exact physics from the initial state; those that fail are left out",
    "label": "replayed in exact physics from the initial state; those that fail are listed",
    "off": "not replayed",
}


def replay_facts(judged: Sequence[Candidate], exported: Sequence[Candidate], mode: Replay) -> dict[str, Any]:
    """How many episodes were looked at, why some are not there, and which of those that are there failed."""
    kept = set(map(id, exported))
    left_out = Counter(c.verdict.fault for c in judged if id(c) not in kept)
    labelled = [f"{c.file.path.name}: {c.name}" for c in exported if c.verdict.fault]
    return {
        "how": _REPLAYS[mode],
        "recorded": len(judged),
        "exported": len(exported),
        "succeeded": sum(c.verdict.replayed for c in exported),
        "failed but kept": labelled,
        "no-ops dropped": sum(c.verdict.noops for c in exported),
        "left out": dict(left_out),
    }


def source_facts(candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Tasks, policies, success rates, initial states and seeds."""
    files = {id(c.file): c.file for c in candidates}.values()
    tasks: dict[str, Counter] = {}
    states: dict[str, set[int]] = {}
    seeds: set[int] = set()
    for candidate in candidates:
        task = candidate.file.task.id
        tasks.setdefault(task, Counter()).update(episodes=1, steps=candidate.verdict.steps)
        states.setdefault(f"{task} {candidate.split}", set()).add(candidate.initial_index)
        seeds.add(candidate.seed)
    return {
        "tasks": {task: dict(counts) for task, counts in tasks.items()},
        "policy": [{"task": file.task.id, **file.policy} for file in files],
        "success_rate": {file.task.id: success_rate(file.policy) for file in files},
        "initial_states": {name: ranges(indices) for name, indices in states.items()},
        "seeds": {"episodes": ranges(seeds)},
    }


def world_facts(assets: Mapping[str, str], drawing: RenderOptions) -> dict[str, Any]:
    """MuJoCo, assets, view, versions and licence."""
    return {
        "mujoco": mujoco.__version__,
        "assets": dict(assets),
        # LIBERO's actions are steps from where the hand is, not where it should be.
        "action_semantics": "relative",
        "view": VIEWS[drawing.view],
        "versions": package_versions(),
        "licence": LICENCE,
    }


def quality_facts(folder: Path) -> dict[str, Any]:
    """Quality of the episodes as they lie in a dataset, so that anybody can work it out again from it."""
    return dataset_quality(open_dataset(folder)).summary()


def success_rate(policy: Mapping[str, Any]) -> dict[str, Any] | str:
    """How often the policy succeeds, with its interval: as it was evaluated, else while these episodes were made."""
    if policy.get("evaluated"):
        return {"on": "the stored initial states", **policy["evaluated"]}
    recorded = policy.get("recorded", {})
    if recorded.get("attempts"):
        rate = SuccessRate(min(recorded["demonstrations"], recorded["attempts"]), recorded["attempts"])
        return {"on": "the attempts that these episodes are the successes of", **rate.to_json()}
    return "not recorded"


def ranges(numbers: set[int]) -> str:
    """`0-3, 7`, and no more than 20 parts."""
    ordered, parts = sorted(numbers), []
    for number in ordered:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    words = [f"{first}" if first == last else f"{first}-{last}" for first, last in parts]
    return ", ".join(words if len(words) <= 20 else [*words[:20], f"... {len(ordered)} in all"])
