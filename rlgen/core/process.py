"""This process and its workers, and the cache that they share.

`prepare_process` sets what must be set before jax is imported: the folder of compiled programs, and the level of
libraries' messages.
"""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any

from rlgen.core.errors import UserError, first_line
from rlgen.core.files import expanded

CACHE_VARIABLE = "RLGEN_CACHE"


def cache_folder() -> Path:
    """Returns the folder of scenes, placeholder assets and compiled programs: `RLGEN_CACHE`, or `~/.cache/rlgen`.

    Raises:
      UserError: the variable is not set, and this user has no home.
    """
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = expanded(os.environ.get(CACHE_VARIABLE) or f"{caches}/rlgen")
    if str(folder).startswith("~"):
        raise UserError(f"no home folder, so that there is no {folder}; set {CACHE_VARIABLE} to a folder for the cache")
    return folder.absolute()


@contextmanager
def cache_errors(folder: Path) -> Iterator[None]:
    """Turns an `OSError` raised while the cache is written into a `UserError` that names its folder and variable."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise UserError(
            f"the cache {folder} cannot be written: {reason}; set {CACHE_VARIABLE} to a folder with room that can"
        ) from error


def name_compile_cache(variable: str, name: str) -> None:
    """Sets the variable of a library that keeps what it compiles, unless the user did or the cache cannot be written.

    Without it the library compiles anew in every process.

    Args:
      variable: such as `NUMBA_CACHE_DIR`.
      name: of the library's folder in the cache.
    """
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, UserError):
        return
    os.environ.setdefault(variable, str(folder / name))


def name_numba_cache() -> None:
    """Sets Numba's variable, as `name_compile_cache` does."""
    name_compile_cache("NUMBA_CACHE_DIR", "numba")


def prepare_process() -> None:
    """Sets the environment variables that libraries read when they are imported; those that the user set stay."""
    name_numba_cache()
    name_compile_cache("JAX_COMPILATION_CACHE_DIR", "jax")
    defaults = {
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "ABSL_MIN_LOG_LEVEL": "2",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    _quiet_libraries()


def pinned(threads: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables with which a process computes on `threads` cores, whatever the machine has.

    Sums of floating-point numbers may depend on how they are divided, so that these
    are set even where the user set them.

    Args:
      threads: of the process.
      environment: of the process, whose other flags stay.
    """
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "NPROC", "PJRT_NPROC")
    flags = [flag for flag in environment.get("XLA_FLAGS", "").split() if "xla_cpu_multi_thread_eigen" not in flag]
    flags.append(f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}")
    return {**dict.fromkeys(names, str(threads)), "XLA_FLAGS": " ".join(flags)}


def pin_threads(threads: int) -> None:
    """Sets the variables of `pinned`; call it before NumPy and jax are imported, which read them then."""
    os.environ.update(pinned(threads, os.environ))
    # Several such processes may share an accelerator.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


@contextmanager
def worker_pool(
    workers: int, initialize: Callable[..., None] | None = None, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """Yields fresh processes that leave Ctrl-C to their parent and end with it, even if it is killed.

    An error cancels what has not started. An interruption ends the processes in the middle of their work.

    Args:
      workers: number of processes.
      initialize: called first in each of them.
      *arguments: of `initialize`.

    Raises:
      UserError: the system killed one of them.
    """
    _start_quiet_tracker()
    context = _WorkerContext()
    prepare = (os.getpid(), initialize, arguments)
    pool = ProcessPoolExecutor(workers, context, initializer=_initialize_worker, initargs=prepare)
    try:
        yield pool
    except KeyboardInterrupt:
        for process in context.started:
            if process.is_alive():
                process.kill()
        pool.shutdown(cancel_futures=True)
        raise
    except BrokenProcessPool as error:
        pool.shutdown()
        if any(process.exitcode == -signal.SIGKILL for process in context.started):
            raise killed("a worker process") from error
        raise
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


def _start_quiet_tracker() -> None:
    """Starts multiprocessing's process that removes the semaphores of others that ended, as one that does not say so.

    It would warn whenever this process ends without the end of the interpreter, as at a signal.
    """
    name = "PYTHONWARNINGS"
    before = os.environ.get(name)
    os.environ[name] = ",".join(filter(None, [before, "ignore:resource_tracker:UserWarning"]))
    try:
        resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


class _WorkerProcess(SpawnProcess):
    """A worker that is deaf to Ctrl-C from its first moment on: signals that are blocked are inherited."""

    def start(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _WorkerContext(SpawnContext):
    """The maker of an executor's workers; it remembers them, as the executor forgets those that have ended."""

    def __init__(self) -> None:
        self.started: list[_WorkerProcess] = []

    def Process(  # pyright: ignore[reportIncompatibleVariableOverride]: a class there, called alike
        self, *arguments: Any, **options: Any
    ) -> _WorkerProcess:
        self.started.append(_WorkerProcess(*arguments, **options))
        return self.started[-1]


def _initialize_worker(parent: int, initialize: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    end_with_parent(parent)
    if initialize is not None:
        initialize(*arguments)


def killed(what: str) -> UserError:
    """Returns the error of a process that ended by SIGKILL; `what` names it."""
    return UserError(
        f"{what} was killed by the system, probably for want of memory; free some or take fewer --workers, "
        "then the same command resumes"
    )


_PARENT = "RLGEN_PARENT"
_PR_SET_PDEATHSIG = 1


def start_child(
    command: Sequence[str], environment: Mapping[str, str] | None = None, **options: Any
) -> "subprocess.Popen[Any]":
    """Starts a program of this package; it calls `end_with_parent` first.

    Args:
      command: the program and its words.
      environment: variables that it has beside those of this process.
      **options: of `subprocess.Popen`.
    """
    inherited = {**os.environ, **(environment or {})}
    return subprocess.Popen(command, env={**inherited, _PARENT: str(os.getpid())}, **options)


def end_with_parent(parent: int | None = None) -> None:
    """Makes this process leave Ctrl-C to its parent, and end when that ends.

    Args:
      parent: its process number; by default what `start_child` said. A process that was started by hand has none.
    """
    parent = int(os.environ.pop(_PARENT, 0)) if parent is None else parent
    if not parent:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        # Whatever this process is doing then: it may be stopped, or in C code that does not return.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()


def _watch_parent(parent: int) -> None:
    """Ends this process with its parent where the system does not, and where that had ended before."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _quiet_libraries() -> None:
    import logging

    # Orbax logs at length what it also raises, and we print what it raises in one line.
    for name, level in (("absl", logging.CRITICAL), ("orbax", logging.ERROR), ("jax._src.compiler", logging.ERROR)):
        logging.getLogger(name).setLevel(level)
