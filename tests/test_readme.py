"""What the README shows does what it says."""

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
FIXTURES = Path(__file__).parent / "fixtures" / "0.1.0"
# Where the README's examples find what the fixtures hold.
PLACES = {
    "state": "runs/experts/libero_object-6-diffusion-0",
    "vla/model/2": "runs/vla/model/3000",
    "datasets/libero_object_no_noops/1.0.0": "runs/datasets/libero_object_no_noops/1.0.0",
}


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A folder with an expert, a dataset and a model where the README's examples look for them."""
    for archive in FIXTURES.glob("*.tar.xz"):
        with tarfile.open(archive) as file:
            file.extractall(tmp_path / "unpacked", filter="data")
    for source, target in PLACES.items():
        shutil.copytree(tmp_path / "unpacked" / source, tmp_path / target)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RLGEN_OFFLINE", "1")
    return tmp_path


def test_the_examples_run_in_their_order(home):
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", README, flags=re.S):
        exec(code, names)
    assert names["result"].reward.shape == (4,) and names["observation"].vector.shape[0] == 4
    assert names["frames"].shape[1:] == (32, 32, 3) and len(names["episodes"]) == 2
    assert names["actions"].shape == (1, names["policy"].config.horizon, 7)


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, rlgen; assert not {'jax', 'mujoco', 'numpy'} & set(sys.modules); assert 'load_vla' in dir(rlgen)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_local_link_leads_somewhere():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert targets
    for target in targets:
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_every_command_it_names_is_there():
    from rlgen.cli.main import COMMANDS, NONE

    commands = re.findall(r"rlgen ([a-z]+)(?: ([a-z]+))?", README)
    assert commands
    for noun, verb in commands:
        assert noun in COMMANDS, noun
        if isinstance(COMMANDS[noun], dict) and verb and NONE not in COMMANDS[noun]:
            assert verb in COMMANDS[noun], f"{noun} {verb}"


def test_it_is_short():
    assert len(README.splitlines()) <= 220
