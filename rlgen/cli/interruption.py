"""The end of a command by a signal: one line and exit code 130 (Ctrl-C), 143 (SIGTERM) or 129 (SIGHUP), at any moment.

Python's own way out is an exception in the main thread, then the end of the interpreter. It does not suffice:
  - XLA compiles in threads of its own. An exception that leaves the wait for them frees what they go on using, as does
    the end of the interpreter: either may crash.
  - An exception that is raised in a callback of the garbage collector is dropped, and one that is raised while a module
    in C++ is imported may end the process by `std::terminate`.
  - Code that computes for minutes without returning to the interpreter learns of no signal.
So a signal raises `KeyboardInterrupt`, whose `with` and `finally` clean up, but not in such moments; the process ends
without the end of the interpreter; and a thread ends it after some seconds whatever the main thread does. What is on
the disk allows for that: it has to survive SIGKILL.
"""

import atexit
import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType

ENDINGS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "terminated"}
# Seconds in which the main thread may clean up. A second signal ends the process at once, unless it comes so soon that
# it is the same one, sent by the terminal and by a program in between.
PATIENCE = 3.0
SAME = 0.5
# Shows a terminal's cursor, and clears its line.
RESTORE = b"\x1b[?25h\r\x1b[K"
# Modules of jax: in one XLA compiles; in the other a compiled program is written to the cache, in a moment, and half of
# one would stay there for good.
COMPILING, STORING = "jax._src.compiler", "jax._src.lru_cache"
# The class that imports modules that are not written in Python.
LOADER = "ExtensionFileLoader."
# Bytes in the pipe beside the numbers of signals: the handler has raised; the signal is to come again.
_RAISED, _AGAIN = 0, 255


def run_interruptible(command: Callable[[], object], patience: float = PATIENCE) -> None:
    """Runs a process's command, so that signals end the process as this module says.

    Signals that the process was started with as ignored, by `nohup` for example, stay ignored. Code with a graceful end
    of its own, such as a server's, sets its own handler with `signal.signal` or `loop.add_signal_handler`; that signal
    is then its own business.

    Args:
      command: what the process is for; its exceptions pass, if no signal came.
      patience: seconds for the main thread to clean up after a signal.
    """
    interruption = _Interruption(patience)
    interruption.install()
    try:
        try:
            command()
        finally:
            interruption.is_running = False
    except KeyboardInterrupt:
        interruption.number = interruption.number or signal.SIGINT
    except BaseException:
        if interruption.number is None:
            raise
    if interruption.number is not None:
        interruption.end()


class _Interruption:
    """The first signal that asked the process to end, and the threads' agreement on who ends it.

    Attributes:
      number: of the signal; None before there is one.
      is_running: whether an exception in the main thread still reaches `run_interruptible`.
    """

    def __init__(self, patience: float) -> None:
        self.number: int | None = None
        self.is_running = True
        self._patience = patience
        self._raised = False
        self._ending = threading.Lock()

    def install(self) -> None:
        """Sets the handlers, and starts the thread that also learns of signals that Python cannot handle now."""
        pipe, self._wakeup = os.pipe()
        os.set_blocking(self._wakeup, False)
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(pipe,), daemon=True).start()
        sys.unraisablehook = self._on_unraisable
        self._quiet_others()
        for number in ENDINGS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)
        # Registered first, called last.
        atexit.register(_ignore_signals)

    def end(self) -> None:
        """Ends the process with its one line."""
        for stream in (sys.stdout, sys.stderr):
            # Nobody reads a closed pipe, and another thread may hold a stream.
            with contextlib.suppress(OSError, ValueError, AttributeError, RuntimeError):
                stream.flush()
        while True:
            self._end_now()
            time.sleep(1)

    def _end_now(self) -> None:
        """Ends the process; returns where another thread is about to do that."""
        if not self._ending.acquire(blocking=False):
            return
        number = signal.Signals(self.number or signal.SIGINT)
        with contextlib.suppress(OSError):
            for stream in (1, 2):
                if os.isatty(stream):
                    os.write(stream, RESTORE)
            os.write(2, f"{ENDINGS[number]}; the same command resumes where it was\n".encode())
        os._exit(128 + number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal in the main thread."""
        self.number = self.number or number
        modules = _modules(frame)
        if self._ending.locked() or self._raised:
            # This thread may be what the signal has interrupted on its way out.
            return
        if not self.is_running:
            self._end_now()
        elif STORING in modules or _is_loading_extension(frame):
            self._notify(_AGAIN)
        elif COMPILING in modules:
            self.end()
        else:
            self._raised = True
            self._notify(_RAISED)
            raise KeyboardInterrupt

    def _on_unraisable(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """Notices that what the handler raised was dropped; other exceptions are reported as ever."""
        if self._raised and issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._raised = False
            self._notify(_AGAIN)
        else:
            sys.__unraisablehook__(unraisable)

    def _quiet_others(self) -> None:
        """Has nothing said of what fails in other threads after a signal, as where they find what they used closed."""
        in_any, in_thread = sys.excepthook, threading.excepthook

        def on_error(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
            if self.number is None:
                in_any(kind, error, traceback)

        def on_thread_error(failure: threading.ExceptHookArgs) -> None:
            if self.number is None:
                in_thread(failure)

        sys.excepthook, threading.excepthook = on_error, on_thread_error

    def _notify(self, byte: int) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wakeup, bytes([byte]))

    def _watch(self, pipe: int) -> None:
        """Ends the process when its time is up, or at a second signal. Runs in a thread."""
        first: float | None = None
        repeated = 0
        while True:
            left = None if first is None else max(0.0, first + self._patience - time.monotonic())
            if not select.select([pipe], [], [], left)[0]:
                self._end_now()
                return
            [byte] = os.read(pipe, 1)
            if byte == _AGAIN:
                # What was in the way has to be over first.
                time.sleep(0.05)
                repeated += 1
                os.kill(os.getpid(), self.number or signal.SIGINT)
            elif byte == _RAISED or self._is_ours(byte):
                self.number = self.number or byte
                if first is None:
                    first = time.monotonic()
                elif byte != _RAISED and repeated:
                    repeated -= 1
                elif byte != _RAISED and time.monotonic() - first > SAME:
                    self._end_now()

    def _is_ours(self, number: int) -> bool:
        return number in ENDINGS and signal.getsignal(number) == self._handle


def _ignore_signals() -> None:
    """Has signals ignored: all is done, and the interpreter takes its handlers away well before its own end."""
    for number in ENDINGS:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_IGN)


def _is_loading_extension(frame: FrameType | None) -> bool:
    """Returns whether a module that is not written in Python is being imported, from a frame outwards."""
    while frame is not None and not frame.f_code.co_qualname.startswith(LOADER):
        frame = frame.f_back
    return frame is not None


def _modules(frame: FrameType | None) -> set[str]:
    """Returns the names of the modules whose functions are running, from a frame outwards."""
    found: set[str] = set()
    while frame is not None:
        found.add(frame.f_globals.get("__name__", ""))
        frame = frame.f_back
    return found
