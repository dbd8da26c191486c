"""The cache of scene bundles: found by a key of their contents, built by the benchmark's own code where missing."""

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import mujoco

from rlgen.core.errors import UserError
from rlgen.core.process import cache_errors, killed, start_child
from rlgen.libero.scenes.assets import AssetSource, fingerprint
from rlgen.libero.scenes.scene import SCENE_BUNDLE_FORMAT, Scene, load_scene_bundle
from rlgen.libero.tasks.suites import Task, find_task

TRAINING_STATES = 256
TRAINING_SEED = 0
# The benchmark's own code does not run with MuJoCo from 3.9 on; the world on a GPU needs a newer one.
BUILDER_MUJOCO = "3.8.1"


def load_scene(task: str | Task, assets: AssetSource, cache: Path) -> Scene:
    """Loads a task's scene, building its bundle in `cache` the first time (about 10 s).

        scene = load_scene("libero_object/6", find_assets(cache=cache), cache)

    Args:
      task: a task, or text that `find_task` understands.
      assets: from `find_assets`.
      cache: folder in which scene bundles are kept.

    Raises:
      UserError: unknown task, or assets that cannot be used.
    """
    task = find_task(task) if isinstance(task, str) else task
    [folder] = build_scene_bundles([task], assets, cache)
    return load_scene_bundle(folder)


def scene_bundle_key(task: Task, assets: str) -> str:
    """Returns the name of a task's bundle, made from all that goes into it; `assets` is a fingerprint of the assets."""
    content = (SCENE_BUNDLE_FORMAT, TRAINING_STATES, TRAINING_SEED, task.id, task.bddl_file.read_text(), assets)
    return f"{task.suite}-{task.index}-{hashlib.sha256(repr(content).encode()).hexdigest()[:16]}"


def build_scene_bundles(
    tasks: Sequence[Task],
    assets: AssetSource,
    cache: Path,
    *,
    workers: int = 1,
    on_built: Callable[[int], None] | None = None,
) -> list[Path]:
    """Returns the folders of the tasks' scene bundles in `cache`; missing ones are built.

    Args:
      tasks: tasks.
      assets: from `find_assets`.
      cache: folder in which scene bundles are kept.
      workers: processes that build.
      on_built: called several times a second with the number of bundles that exist.

    Raises:
      UserError: a task cannot be built from these assets.
    """
    content = fingerprint(assets.path)
    folders = {task: cache / "scenes" / scene_bundle_key(task, content) for task in tasks}
    missing = [task for task, folder in folders.items() if not folder.is_dir()]
    if missing:
        with cache_errors(cache):
            (cache / "scenes").mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=cache / "scenes").close()
    with tempfile.TemporaryDirectory() as logs:
        jobs = [missing[worker::workers] for worker in range(workers)]
        environment = _builder_environment(cache) if missing else {}
        running = [
            _start_builder({task: folders[task] for task in job}, assets, Path(logs) / str(index), environment)
            for index, job in enumerate(jobs)
            if job
        ]
        _wait(running, lambda: on_built and on_built(sum(folder.is_dir() for folder in folders.values())))
        for index, process in enumerate(running):
            if process.returncode == -signal.SIGKILL:
                raise killed("a process that builds scenes")
            if process.returncode != 0:
                lines = (Path(logs) / str(index)).read_text(errors="replace").strip().splitlines() or ["no output"]
                raise UserError(
                    f"scenes cannot be built from {assets.label} at {assets.path}: {lines[-1]}; "
                    "check the assets folder, or use --placeholders"
                )
    return list(folders.values())


def _builder_environment(cache: Path) -> dict[str, str]:
    """Returns the variables with which the builder finds a MuJoCo that the benchmark's own code runs with.

    Raises:
      UserError: this MuJoCo is too new, and there is no older one in `cache`.
    """
    if tuple(int(part) for part in mujoco.__version__.split(".")[:2]) < (3, 9):
        return {}
    folder = cache.resolve() / f"mujoco-{BUILDER_MUJOCO}"
    if not (folder / "mujoco").is_dir():
        raise UserError(
            f"scenes are built with MuJoCo {BUILDER_MUJOCO}, this is {mujoco.__version__}; "
            f"`pip install --no-deps --target {folder} mujoco=={BUILDER_MUJOCO}` puts it beside this one"
        )
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def _start_builder(
    folders: dict[Task, Path], assets: AssetSource, log: Path, environment: dict[str, str]
) -> subprocess.Popen:
    command = [
        # -P: modules are not looked for in the working directory, which may be full of foreign files.
        *(
            sys.executable,
            "-P",
            "-m",
            "rlgen.libero.scenes.build",
            "--assets",
            str(assets.path),
            "--label",
            assets.label,
        ),
        *("--training-states", str(TRAINING_STATES), "--seed", str(TRAINING_SEED)),
        *("--format", str(SCENE_BUNDLE_FORMAT)),
        *(f"{task.id}={folder}" for task, folder in folders.items()),
    ]
    with open(log, "w") as file:
        return start_child(command, environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)


def _wait(processes: list[subprocess.Popen], on_poll: Callable[[], None]) -> None:
    """Waits until all processes have ended; ends them where the wait is interrupted."""
    try:
        while any(process.poll() is None for process in processes):
            time.sleep(0.05)
            on_poll()
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
            process.wait()
