"""The paper's figures 6 and 7: length and jerk of each source's data, and how much an action varies between episodes.

Command:  uv run python experiments/paper_figures.py [--sources NAME ...] [--scale small] [--runs runs/paper]
Cost:     a minute; it reads the datasets that `paper.py` made.
Expected: data by diffusion PPO shorter and smoother than human-like and clones' data, and no no-ops in any RL data.

Figures go to `results/paper`, with what `rlgen data quality` measured of each source.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from paper import RESULTS, SCALES
from paper_sources import STUDIES, Making

from rlgen.core.files import write_json

FIGURES = ("figure6", "figure7")
QUALITY = "quality.json"
# Of a source's quality; the rest is in the figures' CSV.
KEPT = ("episodes", "steps", "noops", "noops_per_4500", "length", "mean_squared_jerk", "diversity")


def main() -> None:
    """Measures the sources that were made, and keeps figures and numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sources", nargs="+", default=STUDIES["table1"], metavar="NAME")
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    making = Making((), arguments.runs / arguments.scale, 0, 0, (), 1, {})
    folders = {name: Path(making.datasets(name)[0]).parents[1] for name in arguments.sources}
    missing = [name for name, folder in folders.items() if not folder.is_dir()]
    if missing:
        raise SystemExit(f"sources {' '.join(missing)}: no dataset in {arguments.runs}; run `paper.py` first")
    page = arguments.runs / arguments.scale / "quality"
    names = ["--names", *folders, "--out", str(page)]
    subprocess.run([sys.executable, "-m", "rlgen", "data", "quality", *map(str, folders.values()), *names], check=True)
    keep(page, arguments.out)


def keep(page: Path, out: Path) -> None:
    """Copies the figures with their CSV, and of each source's quality what is shown or claimed.

    Args:
      page: folder that `rlgen data quality` wrote.
      out: folder; what is there is replaced.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name in FIGURES:
        for ending in ("png", "csv"):
            shutil.copyfile(page / f"{name}.{ending}", out / f"{name}.{ending}")
    found = json.loads((page / QUALITY).read_text())
    write_json(
        out / QUALITY,
        {
            source: {**{key: value[key] for key in KEPT}, "action_spread": value["spread"]["average"]}
            for source, value in found.items()
        },
    )


if __name__ == "__main__":
    main()
