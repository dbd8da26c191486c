"""The parts one after the other, each in a process of its own with a time limit, and their figures in one JSON.

device.json        all parts
parts/NAME.json    figures of a part, written as they come
parts/NAME.log     what its process printed
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlgen.bench.device.plan import DevicePart
from rlgen.bench.device.record import Setup
from rlgen.core.errors import UserError
from rlgen.core.files import write_json
from rlgen.core.ownership import has_keys, is_vacant, read_record
from rlgen.core.process import start_child

REPORT = "device.json"
# Below this nothing would start and compile.
LEAST_S = 10.0
# A few busy cores compile more slowly than a machine with a GPU.
DRY_PATIENCE = 4
Command = Callable[[DevicePart, Path, Setup], list[str]]


def child_command(part: DevicePart, file: Path, setup: Setup) -> list[str]:
    """Returns the command of a part.

    Args:
      part: to measure.
      file: for its figures.
      setup: of the run.
    """
    program = [sys.executable, "-P", "-m", "rlgen.bench.device.part"]
    return [*program, part.name, str(file), json.dumps(setup.to_json())]


def run(
    out: Path,
    parts: Sequence[DevicePart],
    setup: Setup,
    *,
    minutes: float,
    log: Callable[[str], None],
    command: Command = child_command,
) -> dict[str, Any]:
    """Measures parts in their order until the time is used up; returns the report, which is stored after each.

    A part that fails, hangs or is killed says so in one line, and the next one begins. Parts that are done already in
    this folder are not measured again.

    Args:
      out: folder of the report.
      parts: most important first.
      setup: what they share.
      minutes: of all of them.
      log: called with a line for each part.
      command: of the process that measures a part.

    Raises:
      UserError: the folder holds something else, or the report of another kind of run.
    """
    report = _open(out, setup)
    end = time.monotonic() + 60 * minutes
    for part in parts:
        before = report["parts"].get(part.name)
        if before is not None and before.get("done"):
            log(f"{part.name}: done before")
            continue
        left, limit_s = end - time.monotonic(), part.limit_s * (DRY_PATIENCE if setup.dry_run else 1)
        if left < min(LEAST_S, limit_s):
            entry = before or {
                "done": False,
                "reason": f"not begun: {minutes:g} minutes were used up; the same command goes on",
            }
        else:
            entry = _run_part(out / "parts", part, setup, min(left, limit_s), command)
        report["parts"][part.name] = entry
        report["device"] = report["device"] or entry.get("device")
        write_json(out / REPORT, report)
        log(f"{part.name}: {_outcome(entry)}")
    return report


def _open(out: Path, setup: Setup) -> dict[str, Any]:
    """Returns the report in a folder, or a new one."""
    stored = read_record(out / REPORT)
    if not has_keys(stored, "device", "dry_run", "parts"):
        if not is_vacant(out):
            raise UserError(f"{out} is there and has no {REPORT} of `rlgen bench device`; choose another --out")
        return {"device": None, "dry_run": setup.dry_run, "parts": {}}
    if stored["dry_run"] != setup.dry_run:
        kind = "a dry run" if stored["dry_run"] else "measurements"
        raise UserError(f"{out} holds the figures of {kind}; choose another --out")
    return stored


def _run_part(folder: Path, part: DevicePart, setup: Setup, limit_s: float, command: Command) -> dict[str, Any]:
    """Runs the process of a part; returns its figures so far, with a reason where it did not finish."""
    folder.mkdir(parents=True, exist_ok=True)
    file, printed = folder / f"{part.name}.json", folder / f"{part.name}.log"
    file.unlink(missing_ok=True)
    start = time.monotonic()
    with open(printed, "w") as stream:
        process = start_child(
            command(part, file, setup), stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT
        )
        try:
            process.wait(timeout=limit_s)
            ending = f"its process ended with {process.returncode}"
        except subprocess.TimeoutExpired:
            ending = f"took longer than {limit_s:.0f} s"
        finally:
            process.kill()
            process.wait()
    entry = read_record(file) or {"done": False, "figures": {}}
    if not entry["done"] and "reason" not in entry:
        lines = printed.read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        entry["reason"] = f"{ending}{': ' if last else ''}{last}"[:300]
    return {**entry, "wall_s": time.monotonic() - start, "limit_s": limit_s}


def _outcome(entry: dict[str, Any]) -> str:
    count = len(entry.get("figures", {}))
    figures = f"{count} figure{'' if count == 1 else 's'}"
    if entry["done"]:
        return f"{figures} in {entry['wall_s']:.0f} s"
    return f"{entry['reason']} ({figures})" if count else entry["reason"]
