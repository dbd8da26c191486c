"""Metadata of a demonstration file: the benchmark's environment, language and MJCF of its task."""

import re

from rlgen.core.files import read_json
from rlgen.data.formats.hdf5.layout import DemoFileInfo
from rlgen.libero.scenes.scene import Scene


def demo_file_info(scene: Scene) -> DemoFileInfo:
    """Returns the metadata of a scene's demonstrations, from the task's BDDL file and the scene bundle."""
    bddl = scene.task.bddl_file.read_text()
    environment = re.search(r"\(define\s*\(problem\s+(\w+)", bddl)
    language = re.search(r"\(:language\s+(.*?)\)", bddl)
    return DemoFileInfo(
        # The benchmark's classes are named `Libero_...`, the problems of its BDDL files `LIBERO_...`.
        env_name=environment[1].replace("LIBERO_", "Libero_", 1) if environment else "",
        bddl_file_name=f"{scene.task.id}.bddl",
        language=language[1] if language else scene.task.prompt,
        model_file=_model_file(scene),
        fixtures=tuple(sampler.body for sampler in scene.fixture_samplers or ()),
    )


def _model_file(scene: Scene) -> str:
    """Returns the MJCF with files named as the benchmark's tools look for them, `robosuite/...` and `libero/...`."""
    sources = read_json(scene.folder / "sources.json")
    text = (scene.folder / "scene.xml").read_text()
    return re.sub(r'(?<= file=")[^"]+', lambda match: sources[match[0]], text)
