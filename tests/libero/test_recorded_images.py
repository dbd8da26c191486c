"""Images rendered from scene bundles beside the benchmark's own: a stove that is on, and a task of each suite."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from once import once
from sampling import less, selected

from rlgen.libero.rendering.opengl import OpenGLRenderer, find_gl
from rlgen.libero.rendering.software import SoftwareRenderer
from rlgen.libero.scenes.bundles import build_scene_bundles
from rlgen.libero.scenes.scene import load_scene_bundle
from rlgen.libero.tasks.suites import find_task

STOVE = "libero_goal/7"
# In the same room, in others, and with no fixture to be redrawn.
OTHERS = ("libero_object/6", "libero_spatial/0", "libero_90/30", "libero_10/3")
STATES = 2


@pytest.fixture(scope="module")
def scenes(request, real_assets, cache):
    tasks = sorted(selected(request, ()) | {STOVE})
    folders = build_scene_bundles([find_task(task) for task in tasks], real_assets, cache)
    return {task: load_scene_bundle(folder) for task, folder in zip(tasks, folders, strict=True)}


def positions(scene, lit: bool) -> np.ndarray:
    """Joint positions of the first stored states, the last of them with the stove turned on."""
    rows = scene.stored_states[:STATES, 1 : 1 + scene.model.nq].copy()
    if lit:
        rows[-1, scene.goal.joints[0, 0]] = 1.0
    return rows


@pytest.fixture(scope="module")
def official(scenes, real_assets, together):
    if find_gl() == "none":
        pytest.skip("the benchmark renders nothing without a GL library; test_camera.py tests that case")
    program = Path(__file__).with_name("record_images.py")

    def record(out: Path) -> None:
        jobs = []
        for index, (task, scene) in enumerate(scenes.items()):
            np.save(out / f"{index}.npy", positions(scene, task == STOVE))
            jobs.append(f"{task}={out / f'{index}.npy'}")
        assets = str(real_assets.path)
        command = [sys.executable, str(program), "--assets", assets, "--gl", find_gl(), "--out", str(out), *jobs]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]

    out = once(together, "images", record)
    return {task: dict(np.load(out / f"{task.replace('/', '-')}.npz")) for task in scenes}


@pytest.mark.parametrize("task", less((STOVE, *OTHERS), OTHERS))
def test_scenes_render_to_the_benchmarks_pixels(scenes, official, task):
    scene = scenes[task]
    for size in (128, 256):
        with OpenGLRenderer(scene.visual_model, image_size=size) as renderer:
            images = [renderer.render(qpos) for qpos in positions(scene, task == STOVE)]
            fixtures = official[task]["fixtures"]
            moved = dict(zip(scene.fixture_bodies.tolist(), fixtures, strict=True))
            redrawn = renderer.render(positions(scene, task == STOVE)[0], moved)
        np.testing.assert_array_equal(images, official[task][str(size)], err_msg=f"{size} pixels")
        [expected] = official[task][f"redraw{size}"]
        np.testing.assert_array_equal(redrawn, expected, err_msg=f"{size} pixels, fixtures redrawn")
        assert np.array_equal(redrawn, images[0]) == (len(fixtures) == 0)


def test_the_disc_on_a_stove_is_visible_only_while_it_is_on(scenes):
    """From the agent view, by the software renderer."""
    scene = scenes[STOVE]
    renderer, (off, on) = SoftwareRenderer(scene.visual_model, image_size=128), positions(scene, lit=True)
    images = [renderer.render(qpos)[0].astype(int) for qpos in (off, on, off)]
    red = [int(np.sum((p[..., 0] > 120) & (p[..., 1] < 60))) for p in images]
    assert red[1] > red[0] + 20 and red[2] == red[0]
    just_below = on.copy()
    just_below[scene.goal.joints[0, 0]] = 0.4999
    below = renderer.render(just_below)[0].astype(int)
    assert int(np.sum((below[..., 0] > 120) & (below[..., 1] < 60))) == red[0]
