"""Copies of a fleet to commit: its plan and the ledgers of its tasks, without paths of the machine.

Command:  uv run python experiments/fleet_results.py FLEET NAME
Cost:     none; the fleet itself takes about twenty core-minutes a task.
Expected: `results/fleet/NAME`, on which `rlgen fleet status` works as on the fleet.

The four suites of ten tasks, as they were run (it goes on where it was stopped, and tasks may be added):

    uv run rlgen fleet libero_spatial libero_object libero_goal libero_10 --out runs/fleet/diffusion --assets DIR
"""

import argparse
import json
from pathlib import Path

from rlgen.core.files import read_json, write_bytes, write_json
from rlgen.fleet.ledger import NAME
from rlgen.fleet.plan import RECORD, open_plan, task_folder, tasks_of

RESULTS = Path(__file__).resolve().parent / "results" / "fleet"


def main() -> None:
    """Copies the plan and the ledgers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fleet", type=Path)
    parser.add_argument("name")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    copy(arguments.fleet, arguments.out / arguments.name)


def copy(fleet: Path, out: Path) -> None:
    """Writes a fleet's plan and ledgers, with the assets' and the fleet's own folders left out of all texts.

    Args:
      fleet: its folder.
      out: folder; ledgers that are there are replaced.
    """
    plan, record = open_plan(fleet), read_json(fleet / RECORD)
    folder = record["assets"]["path"]
    record["assets"]["path"] = Path(folder).name
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / RECORD, record)
    for task in tasks_of(plan):
        ledger = task_folder(fleet, task) / NAME
        if not ledger.is_file():
            continue
        lines = [json.loads(line) for line in ledger.read_text().splitlines()]
        for line in lines:
            for known in (fleet.absolute(), fleet, folder):
                line |= {"reason": line["reason"].replace(f"{known}/", "")} if "reason" in line else {}
        to = task_folder(out, task)
        to.mkdir(parents=True, exist_ok=True)
        write_bytes(to / NAME, "".join(json.dumps(line) + "\n" for line in lines).encode())


if __name__ == "__main__":
    main()
