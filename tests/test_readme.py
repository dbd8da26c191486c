"""What the README shows does what it says."""

import re
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def test_its_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RLGEN_OFFLINE", "1")
    [code] = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.S)
    names: dict = {}
    exec(code, names)
    assert names["seen"]["agentview"].shape == (4, 128, 128, 3)
    assert names["reward"].shape == (4,)
    names["env"].close()
