"""Fixtures that several rooms share, and where tests keep what is slow to make."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared import shared_dir

ROOT = Path(__file__).resolve().parents[1]
# Before jax is imported, here and in the processes that tests start: what one of them compiled the others load.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

BUTTER = "libero_object/pick_up_the_butter_and_place_it_in_the_basket"


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Scenes and compiled programs of this session and all its processes, unless the environment names a cache."""
    named = os.environ.get("RLGEN_CACHE")
    base = tmp_path_factory.getbasetemp()
    folder = Path(named) if named else (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    yield folder


@pytest.fixture(scope="session")
def placeholder_scene(cache: Path):
    """The butter task made of the built-in stand-ins."""
    from rlgen.libero.scenes.assets import find_assets
    from rlgen.libero.scenes.bundles import load_scene

    return load_scene(BUTTER, find_assets(placeholders=True, cache=cache), cache)


@pytest.fixture(scope="session")
def other_scene(cache: Path):
    """A task with another number of objects, made of the benchmark's own assets; skips where there are none."""
    from rlgen.libero.scenes.assets import find_assets
    from rlgen.libero.scenes.bundles import load_scene

    return load_scene("libero_goal/0", find_assets(shared_dir() / "libero" / "assets", cache=cache), cache)


@pytest.fixture(scope="session")
def real_scene(cache: Path):
    """The butter task made of the benchmark's own assets; skips where they are not to be had."""
    from rlgen.libero.scenes.assets import find_assets
    from rlgen.libero.scenes.bundles import load_scene

    return load_scene(BUTTER, find_assets(shared_dir() / "libero" / "assets", cache=cache), cache)
