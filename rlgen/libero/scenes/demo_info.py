"""Metadata of a demonstration file: the benchmark's environment, language and MJCF of its task."""

import importlib.util
import re
from pathlib import Path
from typing import Any

from rlgen.core.errors import UserError
from rlgen.core.files import read_json
from rlgen.data.formats.hdf5.layout import DemoFileInfo
from rlgen.data.metrics.smoothness import CONTROL_STEP
from rlgen.libero.scenes.scene import Scene

BENCHMARK_IMAGE_SIZE = 128


def demo_file_info(scene: Scene, image_size: int = BENCHMARK_IMAGE_SIZE) -> DemoFileInfo:
    """Returns the metadata of a scene's demonstrations, from the task's BDDL file and the scene bundle.

    Args:
      scene: of all demonstrations of the file.
      image_size: width and height of its images, pixels; by default that of the benchmark.
    """
    bddl = scene.task.bddl_file.read_text()
    environment = re.search(r"\(define\s*\(problem\s+(\w+)", bddl)
    language = re.search(r"\(:language\s+(.*?)\)", bddl)
    bddl_file_name = f"{scene.task.id}.bddl"
    return DemoFileInfo(
        # The benchmark's classes are named `Libero_...`, the problems of its BDDL files `LIBERO_...`.
        env_name=environment[1].replace("LIBERO_", "Libero_", 1) if environment else "",
        bddl_file_name=bddl_file_name,
        language=language[1] if language else scene.task.prompt,
        model_file=_model_file(scene),
        env_kwargs=environment_arguments(bddl_file_name, image_size),
        fixtures=tuple(sampler.body for sampler in scene.fixture_samplers or ()),
        bddl=bddl,
    )


def environment_arguments(bddl_file_name: str, image_size: int) -> dict[str, Any]:
    """Returns the arguments of the benchmark's environment as its files of demonstrations store them.

    robomimic makes an environment out of them: `robosuite.make(env_name, **env_kwargs)`, in the folder that the name
    of the BDDL file is relative to.

    Args:
      bddl_file_name: `<suite>/<name>.bddl`, relative to the benchmark's `bddl_files`.
      image_size: width and height of the images, pixels.
    """
    return {
        "robots": ["Panda"],
        "controller_configs": _controller(),
        "bddl_file_name": bddl_file_name,
        # The benchmark's evaluation starts the arm without noise; robosuite's default has some.
        "initialization_noise": None,
        "has_renderer": False,
        "has_offscreen_renderer": True,
        "ignore_done": True,
        "use_camera_obs": True,
        "camera_depths": False,
        "camera_names": ["robot0_eye_in_hand", "agentview"],
        "reward_shaping": True,
        "control_freq": round(1 / CONTROL_STEP),
        "camera_heights": image_size,
        "camera_widths": image_size,
        "camera_segmentations": None,
    }


def _controller() -> dict[str, Any]:
    """Returns the settings of OSC_POSE that are installed with robosuite, without importing it."""
    spec = importlib.util.find_spec("robosuite")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the package robosuite is not installed; `uv sync` or `pip install --no-deps robosuite==1.4.0`")
    [package] = spec.submodule_search_locations
    return read_json(Path(package) / "controllers/config/osc_pose.json")


def _model_file(scene: Scene) -> str:
    """Returns the MJCF with files named as the benchmark's tools look for them, `robosuite/...` and `libero/...`."""
    sources = read_json(scene.folder / "sources.json")
    text = (scene.folder / "scene.xml").read_text()
    return re.sub(r'(?<= file=")[^"]+', lambda match: sources[match[0]], text)
