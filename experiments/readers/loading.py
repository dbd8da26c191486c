"""Loading of the same videos by this project and by lerobot, in turn.

Command:  uv run python experiments/readers/loading.py --work DIR [--find-links DIR] [--repetitions 5] [--json FILE]
Cost:     ten minutes on two cores, and an environment of lerobot below `--work` as of `run.py`.
Expected: target: 3 times lerobot's own loader in the first epoch, from opening the dataset on.

Both sides load all frames in batches of 32 in a random order: the decoded images of two cameras, the state, and the 16
actions from each frame on. Ours is `open_frames` with `Loader`; theirs is `LeRobotDataset` with torch's `DataLoader`
and the options of lerobot's training. How many processes are best for it is tried first. Each side has a process of its
own that opens the dataset anew in each repetition and goes through it twice. `MEANING` says what is compared.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from run import READERS, environment_of, export, make_environment
from turns import BATCH, HORIZON, Side, script

from rlgen.bench.timing import machine
from rlgen.core.files import write_json

RESULTS = Path(__file__).resolve().parents[1] / "results" / "speed" / "video_loading.json"
KINDS = ("lerobot_av1", "lerobot_h264")
OURS: dict[str, dict[str, Any]] = {"ours": {}, "ours, decoding on request": {"decoded": False}}
THEIRS: dict[str, dict[str, Any]] = {
    **{f"lerobot, {workers} workers": {"workers": workers} for workers in (0, 1, 2)},
    "lerobot by PyAV, 2 workers": {"workers": 2, "backend": "pyav"},
}
MEANING = {
    "first": "frames/s of an epoch with the opening of the dataset; ours decodes all images then, in order, and keeps "
    "them",
    "later": "frames/s of the second epoch: ours from memory, lerobot by processes that run already",
    "ours, decoding on request": "as for datasets whose decoded images are larger than 2 GiB: every image is decoded "
    "when its batch is read, from the key frame before it on",
    "lerobot, N workers": "LeRobotDataset by its default video backend and a DataLoader with N processes (forked, "
    "persistent, prefetch_factor 4; 0: in the process itself), images as uint8",
    "tried": "frames/s of both epochs of each choice, once; the best of the second is lerobot's side",
    "x": "ours over lerobot's, by medians of the rates",
    "x_cpu": "lerobot's `cpu_ms` over ours; where ours keeps its images, over what both its epochs took for one frame, "
    "as if all of it were the first epoch's",
    "cpu_ms": "processor time of a frame over both epochs, with that of the processes: other load on the machine "
    "changes it less than the rate",
    "content": "means over an epoch of pixels, states and chunks of actions, which both sides must agree on",
    "load_average": "processes that ran or waited before and after, by the system's mean over a minute; where there "
    "are more of them than cores, the side with more threads gets more of the machine",
    "memory_mb": "the most memory of the side's process, and of one of its processes",
}


def main() -> None:
    """Times both sides for videos of both codecs, and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for data and the environment, as of run.py")
    parser.add_argument("--find-links", type=Path, help="folder of wheels, such as torch for CPUs alone")
    parser.add_argument("--placeholders", action="store_true", help="placeholder assets instead of the benchmark's")
    parser.add_argument("--repetitions", type=int, default=5, help="that count, after one that does not")
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    folders = export(work, arguments.placeholders)
    python = make_environment(
        READERS["lerobot, newest"], work / "environments" / "lerobot--newest", arguments.find_links
    )
    report: dict[str, Any] = {"machine": machine(), "meaning": MEANING}
    report["setup"] = {"batch": BATCH, "horizon": HORIZON, "warmup": 1, "repetitions": arguments.repetitions}
    for kind in KINDS:
        report[kind], report["lerobot"] = compare(python, folders[kind], arguments.repetitions)
        print(kind, report[kind]["x"], report[kind]["x_cpu"], flush=True)
        write_json(arguments.json, report)


def compare(python: Path, folder: Path, repetitions: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Times all sides in turn.

    Args:
      python: interpreter of lerobot's environment.
      folder: of the dataset.
      repetitions: that count.

    Returns:
      The report of this dataset, and the versions of lerobot and of what it needs.
    """
    load = [os.getloadavg()[0]]
    # In other processes than the timed ones: one that has decoded must not start processes that decode.
    content = {"ours": ask(_ours(folder), None, kind="content")}
    content["lerobot"] = ask(_theirs(python, folder), environment_of(python), kind="content")
    versions = ask(_theirs(python, folder), environment_of(python), kind="versions")
    tried = {name: try_loader(python, folder, options) for name, options in THEIRS.items()}
    best = max(tried, key=lambda name: tried[name][1])
    sides = {name: Side(_ours(folder)) for name in OURS}
    sides[best] = Side(_theirs(python, folder), environment_of(python))
    try:
        answers: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
        for _ in range(1 + repetitions):
            for name, side in sides.items():
                answers[name].append(side.request(kind="load", epochs=2, **{**OURS, **THEIRS}[name]))
    finally:
        for side in sides.values():
            side.close()
    rows = {name: summary(given[1:]) for name, given in answers.items()}
    result = {"frames": content["ours"]["frames"], "content": content, "tried": tried, "sides": rows}
    result |= {"compared with": best, **ratios(rows, best), "load_average": [*load, os.getloadavg()[0]]}
    return result, versions


def ask(command: list[str], environment: dict[str, str] | None, **message: Any) -> Any:
    """Sends one request to a process of its own.

    Args:
      command: as of `Side`.
      environment: as of `Side`.
      message: the request.
    """
    side = Side(command, environment)
    try:
        return side.request(**message)
    finally:
        side.close()


def try_loader(python: Path, folder: Path, options: dict[str, Any]) -> list[float]:
    """Returns the frames/s of lerobot's loader in two epochs, without the opening of the dataset.

    Args:
      python: interpreter of lerobot's environment.
      folder: of the dataset.
      options: as of `THEIRS`.
    """
    answer = ask(_theirs(python, folder), environment_of(python), kind="load", epochs=2, **options)
    return [frames / seconds for frames, seconds in zip(answer["frames"], answer["seconds"], strict=True)]


def _ours(folder: Path) -> list[str]:
    return [sys.executable, script("load_ours.py"), str(folder)]


def _theirs(python: Path, folder: Path) -> list[str]:
    return [str(python), script("load_lerobot.py"), str(folder)]


def summary(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns medians and ranges of a side.

    Args:
      answers: of `turns.timed_epochs`, one for each repetition.
    """
    first = [answer["frames"][0] / (answer["open"] + answer["seconds"][0]) for answer in answers]
    later = [answer["frames"][1] / answer["seconds"][1] for answer in answers]
    cpu = [1000 * answer["cpu_seconds"] / sum(answer["frames"]) for answer in answers]
    return {
        "first": spread(first),
        "later": spread(later),
        "open_seconds": spread([answer["open"] for answer in answers]),
        "cpu_ms": spread(cpu),
        "memory_mb": np.max([answer["memory_mb"] for answer in answers], axis=0).round().tolist(),
    }


def spread(values: list[float]) -> dict[str, float]:
    """Returns median, least and largest."""
    return {"median": float(np.median(values)), "low": min(values), "high": max(values)}


def ratios(rows: dict[str, dict[str, Any]], best: str) -> dict[str, dict[str, Any]]:
    """Returns how many times lerobot's rates ours are, and how many times our processor time lerobot's is.

    Args:
      rows: of `summary`, by side.
      best: lerobot's side.
    """
    epochs = ("first", "later")
    x = {name: {epoch: rows[name][epoch]["median"] / rows[best][epoch]["median"] for epoch in epochs} for name in OURS}
    cpu = {name: rows[name]["cpu_ms"]["median"] * (2 if not options else 1) for name, options in OURS.items()}
    return {"x": x, "x_cpu": {name: rows[best]["cpu_ms"]["median"] / value for name, value in cpu.items()}}


if __name__ == "__main__":
    main()
