"""A recorded file in the hands of the benchmark's own tools."""

import json
import subprocess
import sys
from pathlib import Path

from rlgen.cli.main import main
from rlgen.libero.scenes.assets import find_assets

TASK = "libero_goal/turn_on_the_stove"
PROGRAM = Path(__file__).resolve().parents[3] / "experiments" / "replay_official.py"


def test_a_file_opens_and_replays_in_the_benchmarks_tools(cache: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("RLGEN_CACHE", str(cache))
    options = ["--episodes", "2", "--clean", "--placeholders", "--workers", "1", "--out", str(tmp_path)]
    main(["demos", "record", TASK, *options])
    assets, out = find_assets(placeholders=True, cache=cache).path, tmp_path / "replays.json"
    command = [sys.executable, str(PROGRAM), str(tmp_path), "--assets", str(assets), "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    [(name, row)] = json.loads(out.read_text())["tasks"].items()
    assert name == TASK and row["successes"] == row["trials"] == 2
    # The same physics from the same state: the model in the file is the one that it was recorded with.
    assert row["first_state_away"] < 1e-12
