"""Commands that are interrupted and killed at random moments, and resumed by the same command.

Command:  uv run python experiments/interruption.py [--out runs/interruption]
Cost:     25 minutes of one core.
Expected: all 50 interruptions of cloning, PPO, fine-tuning and export end with exit code 130 within ten seconds, with
          one line and without a process that lives on, those while XLA compiles included; resumed by the same command
          each leaves the same bits as a command that nobody interrupted. The same bits after 20 kills (SIGKILL) each of
          recording, PPO and fine-tuning. Every other command, interrupted once, ends likewise.

Placeholder assets and the smallest sizes. A folder is interrupted several times, then finished and compared with that
of an uninterrupted command: stored numbers and files, without what a clock says. Finished folders are kept, so that the
same command resumes.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rlgen.bench.interruption import LIMIT, Ending, interrupt
from rlgen.bench.timing import machine
from rlgen.core.files import read_json, write_json

RESULTS = Path(__file__).resolve().parent / "results" / "interruption.json"
RLGEN = [sys.executable, "-m", "rlgen"]
TASK, FILE = "libero_goal/7", "libero_goal/turn_on_the_stove_demo.hdf5"
SMALL_RUN = (
    *("--preset", "smoke", "--workers", "1", "--demos.episodes", "2", "--policy.network", "mlp"),
    *("--bc.optimizer-steps", "200", "--bc.stop-success", "1.0", "--bc.check-every", "50", "--bc.check-episodes", "1"),
    *("--ppo.iterations", "4", "--ppo.environments", "2", "--ppo.chunks", "8", "--ppo.evaluate-every", "4"),
    *("--ppo.evaluate-episodes", "1"),
)
# Interruptions of a folder before it is finished.
CHAIN = 5
# Seconds after a command has said that it compiles.
COMPILES = 10.0
CLOCK = ("seconds", "step_s", "data_wait_share")


@dataclass(frozen=True)
class Job:
    """A command that is interrupted.

    Attributes:
      begin: prepares a folder, returns the command that fills it.
      content: what has to be the same, by name.
      interruptions: number of them with programs that are compiled already.
      compiling: number of them with an empty cache of compiled programs.
      kills: number of kills.
      announces: what it says before it compiles.
    """

    begin: Callable[[Path, Path], list[str]]
    content: Callable[[Path], dict[str, str]]
    interruptions: int = 0
    compiling: int = 0
    kills: int = 0
    announces: str = ""


def recording(base: Path, folder: Path) -> list[str]:
    """Returns a command that records three demonstrations over two processes."""
    return [*RLGEN, "demos", "record", TASK, *words("--episodes 3 --workers 2 --placeholders --out"), str(folder)]


def cloning(base: Path, folder: Path) -> list[str]:
    """Returns a command that clones in a run that has its demonstrations."""
    copy(base / "run", folder)
    return [*RLGEN, "run", "bc", "--run", str(folder)]


def ppo(base: Path, folder: Path) -> list[str]:
    """Returns a command that runs PPO in a run that has its clone."""
    copy(base / "cloning", folder)
    return [*RLGEN, "run", "ppo", "--run", str(folder)]


def export(base: Path, folder: Path) -> list[str]:
    """Returns a command that exports the recording."""
    options = words("--placeholders --image-size 64 --shards 3 --workers 1 --out")
    return [*RLGEN, "data", "export", str(base / "recording"), *options, str(folder)]


def fine_tuning(base: Path, folder: Path) -> list[str]:
    """Returns a command that fine-tunes a tiny model on the exported dataset."""
    sizes = words("--model tiny --image-size 64 --train.steps 40 --train.warmup 5 --train.batch 4 --hold-out 0")
    often = words("--log-every 5 --checkpoint-every 10 --workers 2 --out")
    return [*RLGEN, "vla", "train", "--data", str(dataset(base)), *sizes, *often, str(folder)]


JOBS = {
    "recording": Job(recording, lambda folder: hashes(folder, "*/*.hdf5"), kills=20),
    "export": Job(export, lambda folder: hashes(folder, "*/*/*"), interruptions=10),
    "cloning": Job(cloning, lambda folder: training(folder / "bc"), 8, 4, announces="compiling"),
    "ppo": Job(ppo, lambda folder: training(folder / "ppo"), 8, 6, kills=20, announces="compiling"),
    "fine-tuning": Job(
        fine_tuning, lambda folder: training(folder) | model(folder), 8, 6, kills=20, announces="transforms"
    ),
}


def main() -> None:
    """Interrupts, kills, compares, and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/interruption"))
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--share", type=float, default=1.0, help="of the tries, to try")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS), help="whose tries are made")
    arguments = parser.parse_args()
    base = arguments.out.resolve()
    base.mkdir(parents=True, exist_ok=True)
    references = {name: reference(base, name) for name in JOBS}
    report: dict[str, Any] = {"machine": machine() | {"jax": jax.__version__}, "limit_seconds": LIMIT}
    report |= {"interruptions": {}, "kills": {}, "failures": []}
    for name, job in ((name, JOBS[name]) for name in arguments.jobs):
        tries = {"interruptions": job.interruptions, "compiling": job.compiling, "kills": job.kills}
        for kind, count in tries.items():
            chains = make_chains(base, name, kind, round(arguments.share * count), references[name])
            if chains:
                section = report["kills" if kind == "kills" else "interruptions"]
                section[f"{name}, while it compiles" if kind == "compiling" else name] = summary(chains)
                report["failures"] += failures(name, chains)
                print(name, kind, summary(chains), flush=True)
    report["commands"] = commands(base)
    report["total"] = {key: total(report[key]) for key in ("interruptions", "kills")}
    # Paths are relative to the folder of the tries.
    report = json.loads(json.dumps(report).replace(f"{base}/", ""))
    write_json(arguments.json, report)
    print(json.dumps({key: report[key] for key in ("total", "failures")}, indent=1))


def reference(base: Path, name: str) -> dict[str, Any]:
    """Runs a job without interruption, and returns its seconds and its content."""
    record, folder = base / f"{name}.json", base / name
    if not record.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        if name == "cloning":
            begin_run(base)
        command = JOBS[name].begin(base, folder)
        # The first time it compiles; the second is timed.
        finish(command, base / f"{name}.log")
        shutil.rmtree(folder)
        JOBS[name].begin(base, folder)
        start = time.monotonic()
        finish(command, base / f"{name}.log")
        write_json(record, {"seconds": time.monotonic() - start, "content": JOBS[name].content(folder)})
    return read_json(record)


def begin_run(base: Path) -> None:
    """Begins a run with the recording as its demonstrations."""
    folder = base / "run"
    shutil.rmtree(folder, ignore_errors=True)
    source = ["--task", TASK, "--placeholders", "--demos.file", str(base / "recording" / FILE)]
    finish([*RLGEN, "run", "demos", "--run", str(folder), *source, *SMALL_RUN], base / "run.log")


def make_chains(base: Path, name: str, kind: str, count: int, expected: dict[str, Any]) -> list[dict[str, Any]]:
    """Interrupts a job so many times, in as many folders as that takes.

    Args:
      base: folder of everything.
      name: of the job.
      kind: `interruptions`, `compiling` or `kills`.
      count: of the signals.
      expected: from `reference`.
    """
    chains: list[dict[str, Any]] = []
    while (done := sum(len(chain["endings"]) for chain in chains)) < count:
        label = f"{name}-{kind}-{len(chains)}"
        record = base / f"{label}.json"
        if not record.is_file():
            write_json(record, make_chain(base, label, name, kind, min(CHAIN, count - done), expected))
            shutil.rmtree(base / label, ignore_errors=True)
        chains.append(read_json(record))
    return chains


def make_chain(base: Path, label: str, name: str, kind: str, count: int, expected: dict[str, Any]) -> dict[str, Any]:
    """Interrupts the command of one folder several times, finishes it, and compares.

    Args:
      base: folder of everything.
      label: name of the folder, which seeds the moments.
      name: of the job.
      kind: as of `make_chains`.
      count: of the signals.
      expected: from `reference`.
    """
    random = np.random.default_rng(list(label.encode()))
    folder, job = base / label, JOBS[name]
    shutil.rmtree(folder, ignore_errors=True)
    command, log, endings = job.begin(base, folder), base / f"{label}.log", []
    while len(endings) < count:
        with tempfile.TemporaryDirectory() as empty:
            if kind == "compiling":
                moment, environment = random.uniform(0, COMPILES), {**os.environ, "JAX_COMPILATION_CACHE_DIR": empty}
                ending = interrupt(command, log, moment, after=job.announces, environment=environment)
            else:
                moment = random.uniform(0.2, expected["seconds"])
                ending = interrupt(command, log, moment, signal.SIGKILL if kind == "kills" else signal.SIGINT)
        if ending is None:
            break
        endings.append(ending.to_json())
    finish(command, log)
    content, wanted = job.content(folder), expected["content"]
    different = sorted(key for key in content.keys() | wanted.keys() if content.get(key) != wanted.get(key))
    return {"endings": endings, "different": different}


def commands(base: Path) -> dict[str, Any]:
    """Interrupts every other command once, at a random moment of its first seconds."""
    random, found = np.random.default_rng(0), {}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for name, command in other_commands(base, silent.getsockname()[1]).items():
            ending: Ending | None = None
            latest = 20.0
            # Some are done within a second or two.
            while ending is None:
                shutil.rmtree(base / "command", ignore_errors=True)
                ending = interrupt(command, base / "command.log", random.uniform(0.2, latest), environment=online())
                latest /= 1.5
            found[name] = ending.to_json()
            print(name, ending, flush=True)
    return {"tries": len(found), "right": sum(one["right"] for one in found.values()), "endings": found}


def other_commands(base: Path, port: int) -> dict[str, list[str]]:
    """Returns the commands that are no job, with a server that never answers for `download`."""
    data, out, [trained] = str(dataset(base)), str(base / "command"), (base / "fine-tuning" / "model").iterdir()
    lines = [
        f"quickstart --preset smoke --placeholders --run {out}",
        f"expert {TASK} --preset tiny --placeholders --run {out}",
        f"demos import {base / 'recording'} --placeholders --out {out}",
        f"demos download libero_goal --endpoint http://127.0.0.1:{port} --out {out}",
        f"data verify {data}",
        f"data show {data}",
        f"data merge {data} --out {out}",
        f"data quality {data} --out {out}",
        f"vla serve {trained} --port 0",
        f"vla merge {trained} {out}",
        f"eval {TASK} --policy {trained} --placeholders --episodes 2 --image-size 64 --out {out}",
        "bench env --placeholders",
        "bench sampler --quick",
        "bench update --quick",
        "bench dataset --quick",
        "bench vla --preset tiny",
        "bench serve",
        "scenes list",
        "scenes check --placeholders",
    ]
    pattern = re.compile(r"quickstart|expert|eval|\w+ \w+")
    return {name[0]: [*RLGEN, *line.split()] for line in lines if (name := pattern.match(line))}


def summary(chains: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns counts of the endings of some chains, and of the folders that came to the same."""
    endings = [ending for chain in chains for ending in chain["endings"]]
    seconds = [ending["seconds"] for ending in endings]
    return {
        "tries": len(endings),
        "right": sum(ending["right"] for ending in endings),
        "codes": dict(Counter(str(ending["code"]) for ending in endings)),
        "seconds": {"median": statistics.median(seconds), "most": max(seconds)},
        "processes_left": sum(ending["left"] for ending in endings),
        "folders": len(chains),
        "same": sum(not chain["different"] for chain in chains),
    }


def failures(name: str, chains: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the endings that were not right, and what was not the same."""
    found = [{"job": name, **ending} for chain in chains for ending in chain["endings"] if not ending["right"]]
    return found + [{"job": name, "different": chain["different"]} for chain in chains if chain["different"]]


def total(section: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Returns the sums of a section's counts."""
    return {key: sum(row[key] for row in section.values()) for key in ("tries", "right", "folders", "same")}


def finish(command: list[str], log: Path) -> None:
    """Runs a command to its end."""
    with open(log, "a") as file:
        subprocess.run(command, stdout=file, stderr=file, check=True)


def training(folder: Path) -> dict[str, str]:
    """Returns metrics without what a clock says, and the digest of the newest checkpoint's arrays."""
    lines = [without_clock(json.loads(line)) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    newest = max(int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit())
    [meta] = (folder / "checkpoints" / str(newest) / "meta").glob("metadata")
    return {"metrics": json.dumps(lines), "checkpoint": f"{newest} {read_json(meta)['digest']}"}


def without_clock(value: dict[str, Any]) -> dict[str, Any]:
    """Returns a line of metrics without its times."""
    return {name: entry for name, entry in value.items() if not name.startswith(CLOCK)}


def model(folder: Path) -> dict[str, str]:
    """Returns hashes of the files of a finished model, but for its parameters, which are those of the checkpoint."""
    return hashes(folder, "norm_stats.json") | hashes(folder, "model/*/*.json")


def hashes(folder: Path, pattern: str) -> dict[str, str]:
    """Returns the SHA-256 of files by their path in a folder; hidden ones are not compared."""
    files = sorted(path for path in folder.glob(pattern) if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def dataset(base: Path) -> Path:
    """Returns the folder of the exported dataset."""
    [folder] = (base / "export").glob("*/*/")
    return folder


def copy(source: Path, target: Path) -> None:
    """Copies a folder, if the copy is not there yet."""
    if not target.exists():
        shutil.copytree(source, target)


def online() -> dict[str, str]:
    """Returns the environment without what forbids a network: `download` is to reach its silent server."""
    return {key: value for key, value in os.environ.items() if key not in ("RLGEN_OFFLINE", "HF_HUB_OFFLINE")}


def words(text: str) -> list[str]:
    """Returns the words of a text."""
    return text.split()


if __name__ == "__main__":
    main()
