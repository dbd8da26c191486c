"""Images of the renderers `warp` and `fast` beside the benchmark's own, by what the pixels show.

Command:  MUJOCO_GL=egl python experiments/warp_images.py --assets DIR
          in an environment with MuJoCo Warp and a GL library (`osmesa` is one as well).
Cost:     five minutes on two cores, most of it kernels of the ray tracer, compiled once.
Expected: a correlation of 0.9 or more in every suite and camera.

One task of each suite, its first stored initial states, both cameras. A pixel's region is that of the geom that
MuJoCo's segmentation has there: `robot`, `objects`, `fixtures`, or `room` for table, floor and walls. Differences are
of channels in 0..255; `brighter` is their mean with its sign, and `off` the share of pixels with a channel off by more
than 32. `warp, dim` is compared with the benchmark's renderer under a third of the light: OpenGL limits light to 1
before it is multiplied by the texture, the ray tracer limits only the product.
"""

import argparse
from pathlib import Path

import mujoco
import numpy as np

from rlgen.bench.timing import machine
from rlgen.core.files import write_json
from rlgen.core.process import cache_folder
from rlgen.libero.rendering.opengl import find_gl
from rlgen.libero.rendering.pool import RenderPool
from rlgen.libero.rendering.software import CAMERAS
from rlgen.libero.scenes.assets import find_assets
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.scenes.scene import Scene

TASKS = ("libero_spatial/0", "libero_object/0", "libero_goal/0", "libero_10/3", "libero_90/39")
REGIONS = ("robot", "objects", "fixtures", "room")
ROBOT = ("robot0_", "gripper0_", "mount0_")
FAR, DIM = 32, 1 / 3
RESULTS = Path(__file__).resolve().parent / "results" / "world" / "warp_images.json"


def main() -> None:
    """Renders, compares, and writes the JSON after every task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, help="the benchmark's own assets; placeholder assets by default")
    parser.add_argument("--states", type=int, default=1)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    cache = cache_folder()
    assets = find_assets(arguments.assets, placeholders=arguments.assets is None, cache=cache)
    report = {
        "machine": machine(),
        "mujoco": mujoco.__version__,
        "gl": find_gl(),
        "assets": assets.label,
        "size": arguments.size,
        "states": arguments.states,
        "tasks": {},
    }
    for name in TASKS:
        report["tasks"][name] = compare(load_scene(name, assets, cache), arguments.states, arguments.size)
        print(name, report["tasks"][name], flush=True)
        write_json(arguments.json, report)


def compare(scene: Scene, states: int, size: int) -> dict[str, dict]:
    """Returns what the renderers' images have in common with the benchmark's, by camera and region."""
    rows = scene.stored_states[:states]
    images = {name: render(scene, name, rows, size) for name in ("benchmark", "fast", "warp")}
    pairs = {name: (images[name], images["benchmark"]) for name in ("fast", "warp")}
    # Each scene is loaded for this comparison alone.
    headlight = scene.visual_model.vis.headlight
    for lights in (headlight, scene.visual_model):
        prefix = "" if lights is headlight else "light_"
        for kind in ("ambient", "diffuse", "specular"):
            getattr(lights, prefix + kind)[:] *= DIM
    pairs["warp, dim"] = render(scene, "warp", rows, size), render(scene, "benchmark", rows, size)
    shown = regions(scene, rows, size)
    return {
        name: {
            camera: measure(found[:, index], expected[:, index], shown[:, index])
            for index, camera in enumerate(CAMERAS)
        }
        for name, (found, expected) in pairs.items()
    }


def render(scene: Scene, name: str, rows: np.ndarray, size: int) -> np.ndarray:
    """Returns the images of a renderer, `[states, cameras, size, size, 3]`, as real numbers."""
    with RenderPool(scene, name, image_size=size) as pool:
        return pool.render(rows).astype(float)


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
