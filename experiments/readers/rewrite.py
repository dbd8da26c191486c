"""Writes a dataset of ours anew with lerobot itself, as LeRobot 3.0 with videos, as people's own datasets are.

Command:  uv run python experiments/readers/rewrite.py DATASET OUT --work DIR [--find-links DIR]
Cost:     a minute for five thousand frames, and the environment of `run.py`'s first reader, below `--work`.
Expected: read back here with the same numbers and prompts; images as near as lerobot's video keeps them.

What is trained on both is compared by `experiments/vla_closed_loop.py`.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from run import READERS, compare, contents, make_environment, run_script

from rlgen.data.dataset import open_dataset

WRITER = "lerobot, newest"


def main() -> None:
    """Writes the dataset, reads it here and says how both compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder of environments, which stay")
    parser.add_argument("--find-links", type=Path, help="folder of wheels, such as torch for CPUs alone")
    arguments = parser.parse_args()
    folder = arguments.work.absolute() / "environments" / "lerobot--newest"
    python = make_environment(READERS[WRITER], folder, arguments.find_links)
    ours, episodes = contents(arguments.dataset), list(open_dataset(arguments.dataset))
    images = {
        name: np.concatenate([np.asarray(getattr(e, name)) for e in episodes]) for name in ("image", "wrist_image")
    }
    with tempfile.TemporaryDirectory() as work:
        given, seen = Path(work) / "given.npz", Path(work) / "seen.npz"
        np.savez(given, **images, **ours)
        error = run_script(python, "write_lerobot.py", [str(given), str(arguments.out.absolute()), "video", str(seen)])
        if error:
            raise SystemExit(error)
        with np.load(seen) as stored:
            version = str(stored["version"])
    theirs = {**contents(arguments.out), "version": version}
    print(json.dumps(compare(ours, theirs), indent=1))


if __name__ == "__main__":
    main()
