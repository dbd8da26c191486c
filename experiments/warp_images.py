"""Images of the renderers `warp` and `fast` beside the benchmark's own, by what the pixels show.

Command:  python experiments/warp_images.py --assets DIR [--json experiments/results/world/warp_images.json]
          in an environment with MuJoCo Warp and a GL library.
Cost:     five minutes on two cores, most of it kernels of the ray tracer, compiled once.
Expected: a correlation of 0.9 or more in every suite and camera.

One task of each suite, its first stored initial states, both cameras. A pixel's region is that of the geom that
MuJoCo's segmentation has there: `robot`, `objects`, `fixtures`, or `room` for table, floor and walls. Differences are
of channels in 0..255; `brighter` is their mean with its sign, and `off` the share of pixels with a channel off by more
than 32.
"""

import argparse
import json
import platform
from pathlib import Path

import mujoco
import numpy as np

from rlgen.core.process import cache_folder
from rlgen.libero.rendering.opengl import find_gl
from rlgen.libero.rendering.pool import RenderPool
from rlgen.libero.rendering.software import CAMERAS
from rlgen.libero.scenes.assets import find_assets
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.scenes.scene import Scene

TASKS = ("libero_spatial/0", "libero_object/0", "libero_goal/0", "libero_10/3", "libero_90/23")
REGIONS = ("robot", "objects", "fixtures", "room")
ROBOT = ("robot0_", "gripper0_", "mount0_")
FAR = 32


def main() -> None:
    """Renders, compares, and writes the JSON after every task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, help="the benchmark's own assets; placeholder assets by default")
    parser.add_argument("--states", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cache = cache_folder()
    assets = find_assets(arguments.assets, placeholders=arguments.assets is None, cache=cache)
    report = {
        "machine": platform.processor() or platform.machine(),
        "mujoco": mujoco.__version__,
        "gl": find_gl(),
        "assets": assets.label,
        "size": arguments.size,
        "states": arguments.states,
        "tasks": {},
    }
    for name in TASKS:
        report["tasks"][name] = compare(load_scene(name, assets, cache), arguments.states, arguments.size)
        text = json.dumps(report, indent=1)
        print(name, json.dumps(report["tasks"][name]), flush=True)
        if arguments.json is not None:
            arguments.json.write_text(text + "\n")


def compare(scene: Scene, states: int, size: int) -> dict[str, dict]:
    """Returns what the renderers' images have in common with the benchmark's, by camera and region."""
    rows = scene.stored_states[:states]
    images = {}
    for name in ("benchmark", "fast", "warp"):
        with RenderPool(scene, name, image_size=size) as pool:
            images[name] = pool.render(rows).astype(float)
    shown = regions(scene, rows, size)
    return {
        renderer: {
            camera: measure(images[renderer][:, index], images["benchmark"][:, index], shown[:, index])
            for index, camera in enumerate(CAMERAS)
        }
        for renderer in ("fast", "warp")
    }


def measure(found: np.ndarray, expected: np.ndarray, shown: np.ndarray) -> dict:
    """Returns the correlation of images, and for the whole and every region how far they are apart."""
    parts = {"all": np.ones_like(shown, bool)} | {name: shown == index for index, name in enumerate(REGIONS)}
    return {
        "correlation": round(float(np.corrcoef(found.ravel(), expected.ravel())[0, 1]), 4),
        **{name: apart(found[where] - expected[where]) for name, where in parts.items() if where.any()},
    }


def apart(difference: np.ndarray) -> dict[str, float]:
    """Returns the sizes of differences of pixels, `[pixels, 3]`."""
    return {
        "pixels": len(difference),
        "difference": round(float(np.abs(difference).mean()), 2),
        "brighter": round(float(difference.mean()), 2),
        "off": round(float((np.abs(difference) > FAR).any(axis=1).mean()), 4),
    }


def regions(scene: Scene, rows: np.ndarray, size: int) -> np.ndarray:
    """Returns the region that each pixel shows, index of `REGIONS`, `[states, cameras, size, size]`."""
    model = scene.visual_model
    data, renderer = mujoco.MjData(model), mujoco.Renderer(model, size, size)
    renderer.enable_segmentation_rendering()
    option = mujoco.MjvOption()
    option.geomgroup[0], option.sitegroup[:] = 0, 0
    # The background, geom -1, is the last.
    of_geom = np.append(region_of_geoms(scene, model), REGIONS.index("room"))
    found = np.empty((len(rows), len(CAMERAS), size, size), int)
    for row, out in zip(rows, found, strict=True):
        data.qpos[:] = row[1 : 1 + model.nq]
        mujoco.mj_forward(model, data)
        for camera, image in zip(CAMERAS, out, strict=True):
            renderer.update_scene(data, camera, option)
            # Row 0 is the top here, and the bottom in images of the benchmark.
            image[:] = of_geom[renderer.render()[::-1, :, 0]]
    renderer.close()
    return found


def region_of_geoms(scene: Scene, model: mujoco.MjModel) -> np.ndarray:
    """Returns the region of every geom, by the body that it hangs on."""
    fixtures = [sampler.body for sampler in scene.fixture_samplers or ()]
    objects = {model.body(int(body)).name for body in scene.object_bodies}
    found = []
    for geom in range(model.ngeom):
        body = model.geom_bodyid[geom]
        root = model.body(int(model.body_rootid[body])).name
        if model.body(int(body)).name.startswith(ROBOT) or root.startswith(ROBOT):
            found.append("robot")
        elif root in fixtures:
            found.append("fixtures")
        else:
            found.append("objects" if root in objects else "room")
    return np.array([REGIONS.index(name) for name in found])


if __name__ == "__main__":
    main()
