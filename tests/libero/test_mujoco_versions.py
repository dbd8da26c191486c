"""MuJoCo 3.3, on which published checkpoints were scored, makes the same motion where nothing touches."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import fall_and_move
import numpy as np
import pytest
from fall_and_move import trajectory

OLD = "3.3.7"
RECORDED = Path(__file__).with_name(f"fall_and_move-mujoco-{OLD}.npy")
REFUSED = "from rlgen.libero.envs.environment import model_for; model_for(None, 'fast')"


@pytest.fixture(scope="module")
def old_mujoco(tmp_path_factory) -> dict[str, str]:
    """An environment of processes that import the old MuJoCo; skips where it cannot be fetched."""
    folder = tmp_path_factory.mktemp("mujoco")
    installer = [shutil.which("uv") or "uv", "pip", "install", "--python", sys.executable]
    try:
        command = [*installer, "--target", str(folder), "--no-deps", f"mujoco=={OLD}"]
        # Elsewhere, because the project pins the version that it is tested with.
        subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=folder)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"MuJoCo {OLD} cannot be installed here: {error}")
    paths = [str(folder), str(Path(__file__).parents[2])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def test_this_version_moves_as_the_recording_of_the_old_one(placeholder_scene):
    """Compared with a recording of the old version, which needs no network."""
    np.testing.assert_allclose(trajectory(placeholder_scene), np.load(RECORDED), rtol=0, atol=1e-8)


@pytest.mark.parametrize("scene", ["placeholder_scene", "other_scene"])
def test_both_versions_agree_where_nothing_touches(scene, request, old_mujoco, tmp_path):
    scene = request.getfixturevalue(scene)
    program = fall_and_move.__file__
    command = [sys.executable, program, str(scene.folder), str(tmp_path / "out.npy")]
    done = subprocess.run(command, env=old_mujoco, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == OLD
    np.testing.assert_allclose(trajectory(scene), np.load(tmp_path / "out.npy"), rtol=0, atol=1e-8)


def test_the_old_version_refuses_fast_physics_with_a_reason(old_mujoco):
    done = subprocess.run([sys.executable, "-c", REFUSED], env=old_mujoco, capture_output=True, text=True, check=False)
    assert f"physics 'fast' needs MuJoCo 3.4 or newer, this is {OLD}; use 'exact'" in done.stderr
