"""This process, and those that work for it.

What has to be decided before jax loads: where compiled programs are kept, and how loud libraries are.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """Scenes, stand-ins and compiled programs: `RLGEN_CACHE`, or `~/.cache/rlgen`."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("RLGEN_CACHE") or f"{home}/rlgen").expanduser()


def prepare_process() -> None:
    """Sets what libraries read from the environment when they are imported; what the user set stays."""
    defaults = {
        "JAX_COMPILATION_CACHE_DIR": str(cache_folder() / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "ABSL_MIN_LOG_LEVEL": "2",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    _quiet_libraries()


def worker_pool(workers: int, begin: Callable[..., None] | None = None, *arguments: Any) -> ProcessPoolExecutor:
    """Fresh processes; an interruption is the parent's business, and none outlives a parent that was killed.

    Args:
      workers: processes.
      begin: called with `arguments` in each of them first.
      *arguments: of `begin`.
    """
    # A forked process would inherit threads and GL contexts that do not work there.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=_begin_worker, initargs=(begin, arguments))


def _begin_worker(begin: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if begin is not None:
        begin(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _quiet_libraries() -> None:
    import logging

    # Orbax logs pages about what it raises as well, and what it raises becomes one line of ours.
    for name, level in (("absl", logging.CRITICAL), ("orbax", logging.ERROR), ("jax._src.compiler", logging.ERROR)):
        logging.getLogger(name).setLevel(level)
