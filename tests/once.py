"""What is slow to make is made once a session, by whichever of its processes needs it first."""

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path


def once(folder: Path, name: str, build: Callable[[Path], None]) -> Path:
    """Returns the folder that `build` filled, here or in another process, which waits for it.

    Args:
      folder: where the processes of a session look, see the fixture `together`.
      name: the folder's name in it; whoever gives the same name shares one build.
      build: fills an empty folder; if it fails, the next caller tries again.
    """
    made, partial = folder / name, folder / f".{name}.partial"
    with open(folder / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            build(partial)
            partial.rename(made)
    return made
