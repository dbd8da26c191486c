"""The house's walls: which room may import which, and what nobody imports."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# A room imports from its own floor and the floors below.
FLOORS = [
    {"core", "configs"},
    {"nets", "diffusion"},
    {"training", "data", "libero", "policies"},
    {"rl", "vla", "report"},
    {"demos", "curation", "evaluation", "bench"},
    {"pipeline"},
    {"fleet"},
    {"cli", "api", "__main__"},
]
# Who alone may import what.
OWNERS = {
    "libero": {"libero/scenes/build.py"},
    "robosuite": {"libero/scenes/build.py"},
    "bddl": {"libero/scenes/build.py"},
    "wandb": {"training/metrics.py"},
    "tensorflow": {"bench/dataset_tensorflow.py"},
    "warp": {"libero/warp/device.py"},
    "ray": {"fleet/on_ray.py"},
    "av": {"data/formats/lerobot/video.py"},
}
NOBODY = {"torch", "robomimic", "transformers"}
PURE = {"nets", "diffusion"}
PURE_IMPORTS = {
    "abc",
    "chex",
    "jax",
    "flax",
    "jaxtyping",
    "rlgen",
    "dataclasses",
    "functools",
    "typing",
    "collections",
    "math",
    "numpy",
}


def modules():
    return sorted((ROOT / "rlgen").rglob("*.py"))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "rlgen"}
    return found


def room(path: Path) -> str:
    return path.relative_to(ROOT / "rlgen").parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next(level for level, rooms in enumerate(FLOORS) if name in rooms)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    if room(path) == "__init__":
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "rlgen" and len(parts) > 1 and parts[1] != room(path):
            assert floor(parts[1]) <= floor(room(path)), f"{path} imports {name}"
        relative = str(path.relative_to(ROOT / "rlgen"))
        assert parts[0] not in NOBODY, f"{path} imports {name}"
        assert relative in OWNERS.get(parts[0], {relative}), f"{path} imports {name}"
        if room(path) in PURE:
            assert parts[0] in PURE_IMPORTS, f"{path} imports {name}"


def test_both_lists_of_versions_are_the_same():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    listed = [line for line in lines if line and not line.startswith("#")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert listed == project["tool"]["uv"]["constraint-dependencies"]
    assert all("==" in line for line in listed)


def test_every_dependency_has_a_version_in_the_list():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = {line.split("==")[0] for line in project["tool"]["uv"]["constraint-dependencies"]}
    for dependency in project["project"]["dependencies"]:
        name = re.split(r"[<>=\[; ]", dependency)[0].lower().replace("_", "-")
        assert name in listed, name


def test_extras_that_a_message_or_a_guide_names_are_there():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    texts = [path.read_text() for path in [*modules(), ROOT / "README.md", *(ROOT / "rlgen").rglob("README.md")]]
    assert {name for text in texts for name in re.findall(r"--extra (\w+)", text)} <= set(extras)
    named = [pair for text in texts for pair in re.findall(r'missing_extra\("[^"]+", "([^"]+)", "([^"]+)"', text)]
    assert {extra for extra, _ in named} == {"ray", "tensorflow", "wandb"}
    for extra, package in named:
        assert re.split(r"[<>=\[]", extras[extra][0])[0] == package
    # The package itself is on no index.
    assert not [text for text in texts if re.search(r"\brlgen\[(" + "|".join(extras) + r")\]", text)]
