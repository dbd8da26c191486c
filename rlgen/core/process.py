"""This process and its workers.

`prepare_process` sets what must be set before jax is imported: the folder of compiled programs, and the level of
libraries' messages.
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
    """Returns the folder of scenes, placeholder assets and compiled programs: `RLGEN_CACHE`, or `~/.cache/rlgen`."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("RLGEN_CACHE") or f"{home}/rlgen").expanduser()


def prepare_process() -> None:
    """Sets the environment variables that libraries read when they are imported; those that the user set stay."""
    defaults = {
        "JAX_COMPILATION_CACHE_DIR": str(cache_folder() / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "ABSL_MIN_LOG_LEVEL": "2",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    _quiet_libraries()


def worker_pool(workers: int, initialize: Callable[..., None] | None = None, *arguments: Any) -> ProcessPoolExecutor:
    """Starts fresh processes that leave Ctrl-C to their parent and end with it, even if it is killed.

    Args:
      workers: number of processes.
      initialize: called first in each of them.
      *arguments: of `initialize`.
    """
    # A forked process would inherit threads and GL contexts that do not work there.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=_initialize_worker, initargs=(initialize, arguments))


def _initialize_worker(initialize: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initialize is not None:
        initialize(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _quiet_libraries() -> None:
    import logging

    # Orbax logs at length what it also raises, and we print what it raises in one line.
    for name, level in (("absl", logging.CRITICAL), ("orbax", logging.ERROR), ("jax._src.compiler", logging.ERROR)):
        logging.getLogger(name).setLevel(level)
