"""What is carried to a machine without a network: packed, damaged, unpacked, and whether anything is forgotten."""

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from rlgen.libero.warp.device import VERSIONS

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "device"


def script(name):
    spec = importlib.util.spec_from_file_location(f"device_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PACK, UNPACK = script("pack"), script("unpack")
CONTENTS = {"site/a/b.py": b"x = 1\n" * 900, "scenes/c/scene.json": bytes(range(256)) * 40}


@pytest.fixture
def packed(tmp_path):
    for name, data in CONTENTS.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    pieces = PACK.compress(tmp_path / "tree", tmp_path / "out", 200)
    assert len(pieces) > 2 and all(piece.stat().st_size <= 200 for piece in pieces)
    return tmp_path / "out", pieces


def unpack(*paths):
    return subprocess.run(
        [sys.executable, str(FOLDER / "unpack.py"), *map(str, paths)], capture_output=True, text=True, check=False
    )


def test_pieces_of_several_transfers_are_joined_and_the_command_is_said(packed, tmp_path):
    out, pieces = packed
    (tmp_path / "second").mkdir()
    pieces[1].rename(tmp_path / "second" / pieces[1].name)
    done = unpack(out, tmp_path / "second", tmp_path / "there")
    assert done.returncode == 0, done.stderr
    assert {name: (tmp_path / "there" / name).read_bytes() for name in CONTENTS} == CONTENTS
    assert f"rlgen bench device --out ${{OUT:-results}}/device --scenes {tmp_path}/there/scenes" in done.stdout
    assert unpack("--command", tmp_path / "there").stdout == done.stdout


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda out, piece: piece.unlink(), "missing: carry.tar.xz.01"),
        (lambda out, piece: piece.write_bytes(piece.read_bytes()[:-1] + b"?"), "carry.tar.xz.01 is damaged"),
        (lambda out, piece: (out / "manifest.json").unlink(), "no manifest.json"),
    ],
)
def test_what_is_missing_or_damaged_is_named_and_nothing_is_unpacked(packed, tmp_path, damage, message):
    out, pieces = packed
    damage(out, pieces[1])
    done = unpack(out, tmp_path / "there")
    assert done.returncode and message in done.stderr and not (tmp_path / "there").exists()


def test_wheels_are_unpacked_without_their_tests(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        for name in ("a/b.py", "a/tests/c.py", "tests/d.py", "a/testing.py"):
            wheel.writestr(name, "")
    PACK.unpack_wheels([tmp_path / "a.whl"], tmp_path / "site")
    found = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.py")}
    # A package of that name is one.
    assert found == {"a/b.py", "tests/d.py", "a/testing.py"}


def test_versions_are_those_for_the_machines_python():
    pinned = PACK.pinned(("flax", "jax", "numpy"), ["jax"])
    assert [line.split("==")[0] for line in pinned] == ["flax", "numpy"]
    lines = (FOLDER.parents[1] / "requirements.txt").read_text().splitlines()
    assert PACK.pinned(("mujoco", "mujoco-mjx", "warp-lang"), []) == list(VERSIONS)
    for line in pinned:
        assert any(known.startswith(line) and "< '3.12'" not in known for known in lines)


def test_no_package_that_the_parts_import_is_forgotten():
    code = """
import json, sys
import rlgen.bench.device.plan, rlgen.bench.device.run, rlgen.bench.device.part, rlgen.cli.main
from rlgen.libero.warp.device import load_warp, why_absent
why_absent() or load_warp()
from importlib.metadata import packages_distributions
tops, known = {name.split(".")[0] for name in sys.modules}, packages_distributions()
print(json.dumps(sorted({package for top in tops for package in known.get(top, [])})))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = {name.lower().replace("_", "-") for name in json.loads(done.stdout.splitlines()[-1])}
    assert {"jax", "flax", "mujoco", "numba"} <= imported
    # Used where it is there, by trimesh.
    assert imported - set(PACK.PACKAGES) - {"rlgen", "networkx"} == set()
    assert set(PACK.HAVE) <= set(PACK.PACKAGES)
