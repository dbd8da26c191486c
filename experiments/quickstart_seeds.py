"""The quickstart with several seeds, with the benchmark's own assets and with placeholder assets.

Command:  uv run python experiments/quickstart_seeds.py --assets DIR [--preset few] [--seeds 0 1 2] [--out runs/seeds]
Cost:     about 10 minutes a run on 2 cores, an hour for all six.
Expected: BC and PPO at 95 % and more of the stored initial states, the VLA at 80 %; RL data shorter than the clone's
          and with less jerk. Preset `few`: BC between 20 and 80 %, PPO at least 20 points above it, RL data without
          no-ops and with less jerk than the human-like demonstrations.

Runs that are finished are kept; summaries are copied to experiments/results/quickstart/, or quickstart_few/.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"
PRESETS = {"quickstart": "quickstart", "few": "quickstart_few"}


def main() -> None:
    """Runs what is missing, one run at a time, and copies every summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, help="the benchmark's own assets; without them placeholder assets only")
    parser.add_argument("--preset", choices=PRESETS, default="quickstart")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/seeds"))
    arguments = parser.parse_args()
    sources = {"placeholders": ["--placeholders"]}
    if arguments.assets is not None:
        sources["benchmark"] = ["--assets", str(arguments.assets)]
    results = RESULTS / PRESETS[arguments.preset]
    results.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        for source, options in sources.items():
            folder = arguments.out / arguments.preset / f"{source}-{seed}"
            command = [sys.executable, "-m", "rlgen", "quickstart", "--preset", arguments.preset, "--run", str(folder)]
            subprocess.run([*command, "--seed", str(seed), "--resume", *options], check=True)
            shutil.copyfile(folder / "summary.json", results / f"{source}-{seed}.json")


if __name__ == "__main__":
    main()
