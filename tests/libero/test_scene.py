"""Scene bundles: their contents, their use on other machines, and the equality of physics and visual model."""

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import mujoco
import numpy as np
import pytest

from rlgen.core.errors import UserError
from rlgen.libero.scenes import bundles
from rlgen.libero.scenes.scene import load_scene_bundle

# Loads a scene bundle and runs a chunk where the benchmark is not installed.
ALONE = """
import sys
for name in ("libero", "robosuite", "bddl"):
    sys.modules[name] = None
from pathlib import Path
import numpy as np
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.scenes.scene import load_scene_bundle
scene = load_scene_bundle(Path(sys.argv[1]))
env = VectorEnv([scene])
env.reset(scene.stored_states[:1])
assert env.step(np.zeros((1, 3, 7))).control_steps.tolist() == [3]
print(scene.task.id, scene.task.prompt, scene.task.horizon, scene.assets)
"""


def test_a_scene_bundle_works_where_the_benchmark_is_not_installed(placeholder_scene, tmp_path):
    shutil.copytree(placeholder_scene.folder, tmp_path / "bundle")
    command = [sys.executable, "-c", ALONE, str(tmp_path / "bundle")]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    task = placeholder_scene.task
    assert result.stdout.strip() == f"{task.id} {task.prompt} {task.horizon} {placeholder_scene.assets}"


@pytest.mark.parametrize("scene", ["placeholder_scene", "real_scene", "other_scene"])
def test_the_physics_model_steps_to_the_same_bits_as_the_visual_one(scene, request):
    """Masses come from visual geoms as well, so these must be discarded after the compilation of masses."""
    scene = request.getfixturevalue(scene)
    ends = []
    for model in (scene.visual_model, scene.model):
        data = mujoco.MjData(model)
        data.qpos[:] = scene.stored_states[3, 1 : 1 + model.nq]
        mujoco.mj_step(model, data, 100)
        ends.append((data.qpos.copy(), data.site_xpos.copy()))
    np.testing.assert_array_equal(ends[0][0], ends[1][0])
    np.testing.assert_array_equal(ends[0][1], ends[1][1])
    assert mujoco.mj_sizeModel(scene.model) < 5e6 and not scene.model.ntex


def test_every_file_of_the_mjcf_is_in_the_scene_bundle(placeholder_scene):
    root = ElementTree.parse(placeholder_scene.folder / "scene.xml").getroot()
    named = {element.attrib["file"] for element in root.iter() if "file" in element.attrib}
    assert named and all((placeholder_scene.folder / name).is_file() for name in named)
    assert all(name.startswith("assets/") and ".." not in name for name in named)


def test_what_is_no_bundle_of_this_version_is_refused(placeholder_scene, tmp_path):
    with pytest.raises(UserError, match="is not a scene bundle"):
        load_scene_bundle(tmp_path)
    shutil.copytree(placeholder_scene.folder, tmp_path / "old")
    path = tmp_path / "old" / "scene.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 1}))
    with pytest.raises(UserError, match="bundle format 1, expected"):
        load_scene_bundle(tmp_path / "old")
    path.write_text(path.read_text()[:50])
    with pytest.raises(UserError, match="is not a scene bundle"):
        load_scene_bundle(tmp_path / "old")


def test_a_builder_that_the_system_killed_is_not_taken_for_a_mistake_in_the_assets(
    placeholder_assets, placeholder_scene, tmp_path, monkeypatch
):
    killed = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    monkeypatch.setattr(
        bundles, "start_child", lambda command, environment, **options: subprocess.Popen(killed, **options)
    )
    with pytest.raises(UserError, match=r"killed by the system.*memory"):
        bundles.build_scene_bundles([placeholder_scene.task], placeholder_assets, tmp_path)
