"""The quickstart with several seeds, with the benchmark's own assets and with placeholder assets.

Command:  uv run python experiments/quickstart_seeds.py --assets DIR [--seeds 0 1 2] [--out runs/seeds]
Cost:     about 10 minutes a run on 2 cores, an hour for all six.
Expected: BC between 20 and 80 % on the stored initial states, PPO at least 20 points above it, RL data
          without no-ops and with less jerk than the demonstrations.

Runs that are finished are kept; summaries and success plots are copied to experiments/results/quickstart/.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results" / "quickstart"


def main() -> None:
    """Runs what is missing, one run at a time, and copies every summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, help="the benchmark's own assets; without them placeholder assets only")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/seeds"))
    arguments = parser.parse_args()
    sources = {"placeholders": ["--placeholders"]}
    if arguments.assets is not None:
        sources["benchmark"] = ["--assets", str(arguments.assets)]
    RESULTS.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        for source, options in sources.items():
            folder = arguments.out / f"{source}-{seed}"
            command = [sys.executable, "-m", "rlgen", "quickstart", "--run", str(folder)]
            subprocess.run([*command, "--seed", str(seed), "--resume", *options], check=True)
            shutil.copyfile(folder / "summary.json", RESULTS / f"{source}-{seed}.json")
            shutil.copyfile(folder / "report" / "success.png", RESULTS / f"{source}-{seed}.png")


if __name__ == "__main__":
    main()
