"""Fixtures that several rooms share, and where tests keep what is slow to make."""

import gc
import hashlib
import os
import shutil
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from array_types import check_arrays
from compiling import QUICKLY, compile_quickly
from goldens import COMPARED, ReadCheck
from once import once
from sampling import UNIT
from shared import shared_dir

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
KEPT = ROOT / ".pytest_cache"
# Before jax is imported, here and in the processes that tests start: what one of them compiled the others load.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(KEPT / "jax"))
os.environ.setdefault("NUMBA_CACHE_DIR", str(KEPT / "numba"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
# Where in the sources each operation was traced is written into no program: that is a tenth of tracing.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
# Nor does every process that a test starts compile all its Python sources: that takes longer than importing them.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    sys.dont_write_bytecode = False
    sys.pycache_prefix = os.environ.setdefault("PYTHONPYCACHEPREFIX", str(KEPT / "bytecode"))
# Collections of garbage after every 700 objects, Python's default, are a tenth of the time where JAX traces.
gc.set_threshold(7_000, 10, 10)
# Before any of the rooms that are checked is imported.
check_arrays()

BUTTER = "libero_object/pick_up_the_butter_and_place_it_in_the_basket"
# Folders of scenes that no session has used for so long are removed.
KEPT_DAYS = 3


def is_below(item: pytest.Item, names: tuple[str, ...]) -> bool:
    """Returns whether a test is in one of these folders and files below `tests`."""
    return item.path.is_relative_to(TESTS) and item.path.relative_to(TESTS).as_posix().startswith(names)


def pytest_configure(config: pytest.Config) -> None:
    """Has the session checked for arrays of the reference material that no test compares."""
    config.pluginmanager.register(ReadCheck(), "goldens")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what is `unit`, before `-m` selects."""
    for item in items:
        if is_below(item, UNIT):
            item.add_marker(pytest.mark.unit)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Sets how hard JAX tries when it compiles, before fixtures are set up."""
    compile_quickly(is_below(item, QUICKLY) and not is_below(item, tuple(COMPARED)))


def builder_key() -> str:
    """Returns a name of all that decides what is in a scene bundle, beside its task and its assets."""
    rooms = (ROOT / "rlgen/libero" / room for room in ("scenes", "placeholders"))
    sources = [path for room in rooms for path in sorted(room.glob("*.py"))]
    versions = [version(name) for name in ("mujoco", "robosuite", "hf-libero", "numpy")]
    return hashlib.sha256(repr(versions).encode() + b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]


@pytest.fixture(scope="session")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A temporary folder that all processes of this session share, see `once`."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "together"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def cache() -> Path:
    """Scene bundles and placeholder assets, kept between sessions; in the folder that `RLGEN_CACHE` names, if any."""
    if "RLGEN_CACHE" in os.environ:
        folder = Path(os.environ["RLGEN_CACHE"])
    else:
        folder = KEPT / f"scenes-{builder_key()}"
        for other in KEPT.glob("scenes-*"):
            if other != folder and time.time() - other.stat().st_mtime > KEPT_DAYS * 86400:
                shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)
    return folder


@pytest.fixture(scope="session")
def placeholder_assets(cache: Path, kernels: None):
    """The built-in placeholder assets."""
    from rlgen.libero.scenes.assets import find_assets

    return find_assets(placeholders=True, cache=cache)


@pytest.fixture(scope="session")
def kernels(cache: Path, together: Path) -> None:
    """The physics' compiled kernels: one process compiles them, and no other meanwhile."""
    from rlgen.libero.envs.vector_env import VectorEnv
    from rlgen.libero.scenes.assets import find_assets
    from rlgen.libero.scenes.bundles import load_scene

    def compile_them(_: Path) -> None:
        scene = load_scene(BUTTER, find_assets(placeholders=True, cache=cache), cache)
        env = VectorEnv([scene], threads=1)
        env.reset(scene.stored_states[:1])
        env.step(np.zeros((1, 1, 7)))

    once(together, "kernels", compile_them)


@pytest.fixture(scope="session")
def placeholder_scene(placeholder_assets, cache: Path):
    """The butter task made of placeholder assets."""
    from rlgen.libero.scenes.bundles import load_scene

    return load_scene(BUTTER, placeholder_assets, cache)


@pytest.fixture(scope="session")
def real_assets(cache: Path, kernels: None):
    """The benchmark's own assets; skips where they are not to be had."""
    from rlgen.libero.scenes.assets import find_assets

    return find_assets(shared_dir("libero/assets"), cache=cache)


@pytest.fixture(scope="session")
def real_scene(real_assets, cache: Path):
    """The butter task made of the benchmark's own assets."""
    from rlgen.libero.scenes.bundles import load_scene

    return load_scene(BUTTER, real_assets, cache)


@pytest.fixture(scope="session")
def other_scene(real_assets, cache: Path):
    """A task with another number of objects, made of the benchmark's own assets."""
    from rlgen.libero.scenes.bundles import load_scene

    return load_scene("libero_goal/0", real_assets, cache)
