"""How signals end a process, whatever it is doing."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from importlib import import_module
from importlib.machinery import ExtensionFileLoader

import pytest

from rlgen.bench.interruption import LINES, start
from rlgen.cli.interruption import COMPILING, STORING

PROGRAM = """
import asyncio, atexit, gc, hashlib, os, signal, sys, threading, time
from rlgen.cli.interruption import run_interruptible

def command():
    print("ready", flush=True)
{body}

run_interruptible(command, patience={patience})
print("after", flush=True)
"""


def wait_for_line(process) -> bytes:
    """The first line, byte by byte, so that what follows is left to `communicate`."""
    said = b""
    while not said.endswith(b"\n") and (byte := os.read(process.stdout.fileno(), 1)):
        said += byte
    return said


def ended(tmp_path, body, *numbers, patience=1.0, pause=0.0):
    """Exit code, output, standard error and seconds of a program that is sent signals when it is ready."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(body=textwrap.indent(textwrap.dedent(body), "    "), patience=patience))
    process = start([sys.executable, str(program)], subprocess.PIPE, subprocess.PIPE)
    assert wait_for_line(process) == b"ready\n"
    time.sleep(0.2)
    begun = time.monotonic()
    for number in numbers:
        process.send_signal(number)
        time.sleep(pause)
    output, errors = process.communicate(timeout=30)
    return process.returncode, output.decode(), errors.decode(), time.monotonic() - begun


def line(number=signal.SIGINT):
    return LINES[number] + "\n"


@pytest.mark.parametrize("number", LINES)
def test_a_signal_ends_a_command_with_its_code_and_one_line(tmp_path, number):
    code, output, errors, seconds = ended(tmp_path, "time.sleep(60)", number, patience=20)
    assert (code, output, errors) == (128 + number, "", line(number))
    assert seconds < 5


def test_what_the_command_cleans_up_is_cleaned_up(tmp_path):
    body = """
    try:
        time.sleep(60)
    finally:
        time.sleep(0.3)
        print("clean")
    """
    # A terminal and a program in between may both send the same signal.
    code, output, errors, _ = ended(tmp_path, body, signal.SIGINT, signal.SIGINT, patience=20, pause=0.1)
    assert (code, output, errors) == (130, "clean\n", line())


STUCK = {
    "code that does not return to the interpreter": 'hashlib.pbkdf2_hmac("sha256", b"x", b"y", 10**9)',
    "a loop that drops every exception": """
        while True:
            try:
                time.sleep(60)
            except BaseException:
                pass
        """,
    "a clean-up that waits": """
        try:
            time.sleep(60)
        finally:
            time.sleep(60)
        """,
    "a lock that it holds": """
        lock = threading.Lock()
        with lock:
            try:
                lock.acquire()
            finally:
                lock.acquire()
        """,
}


@pytest.mark.parametrize("body", STUCK.values(), ids=STUCK)
def test_a_command_that_is_stuck_ends_when_its_time_is_up(tmp_path, body):
    code, output, errors, seconds = ended(tmp_path, body, signal.SIGINT, patience=0.4)
    assert (code, output, errors) == (130, "", line())
    assert 0.36 < seconds < 5


def test_a_second_signal_ends_a_command_at_once(tmp_path):
    body = STUCK["a clean-up that waits"]
    code, _, errors, seconds = ended(tmp_path, body, signal.SIGINT, signal.SIGINT, patience=20, pause=0.8)
    assert (code, errors) == (130, line())
    assert seconds < 5


DROPPED = {
    "garbage collector": """
        waits = [60]
        gc.callbacks.append(lambda phase, info: waits and time.sleep(waits.pop()))
        gc.collect()
        """,
    "finalizer": """
        class Slow:
            def __del__(self):
                time.sleep(60)
        Slow()
        """,
}


@pytest.mark.parametrize("body", DROPPED.values(), ids=DROPPED)
def test_an_exception_that_is_dropped_comes_again_and_nothing_is_said_of_it(tmp_path, body):
    body = textwrap.dedent(body) + "try:\n    time.sleep(60)\nfinally:\n    print('clean')\n"
    code, output, errors, seconds = ended(tmp_path, body, signal.SIGINT, patience=20)
    assert (code, output, errors) == (130, "clean\n", line())
    assert seconds < 5


FROM_JAX = """
code = "def work():\\n    try:\\n        time.sleep({seconds})\\n    finally:\\n        print('over', flush=True)"
module = dict(__name__={name!r}, time=time)
exec(code, module)
module["work"]()
time.sleep(60)
"""


def test_no_exception_leaves_the_wait_for_xla(tmp_path):
    body = FROM_JAX.format(name=COMPILING, seconds=60)
    code, output, errors, seconds = ended(tmp_path, body, signal.SIGINT, patience=20)
    assert (code, output, errors) == (130, "", line())
    assert seconds < 5


def test_a_compiled_program_is_written_to_its_end(tmp_path):
    body = FROM_JAX.format(name=STORING, seconds=0.8)
    code, output, errors, seconds = ended(tmp_path, body, signal.SIGINT, patience=20)
    assert (code, output, errors) == (130, "over\n", line())
    assert seconds < 5


def test_no_exception_is_raised_while_a_module_in_cpp_is_imported(tmp_path):
    """Those of nanobind call Python, and end the process where it raises."""
    body = """
        def load():
            try:
                time.sleep(0.8)
            except BaseException:
                os.abort()
            print("over", flush=True)
        load.__code__ = load.__code__.replace(co_qualname=CALL)
        load()
        time.sleep(60)
        """.replace("CALL", repr(ExtensionFileLoader.exec_module.__qualname__))
    code, output, errors, seconds = ended(tmp_path, body, signal.SIGINT, patience=20)
    assert (code, output, errors) == (130, "over\n", line())
    assert seconds < 5


def test_jax_compiles_and_stores_in_the_modules_that_are_watched():
    assert hasattr(import_module(COMPILING), "backend_compile_and_load")
    assert hasattr(import_module(STORING).LRUCache, "put")


ENDS = {
    "a thread that goes on": """
        threading.Thread(target=time.sleep, args=(60,)).start()
        time.sleep(60)
        """,
    "an error on the way out": """
        try:
            time.sleep(60)
        finally:
            raise ValueError("while it cleaned up")
        """,
    "the end of the interpreter": "atexit.register(time.sleep, 60)",
    "a closed output": "os.close(1)\ntime.sleep(60)",
}


@pytest.mark.parametrize("body", ENDS.values(), ids=ENDS)
def test_nothing_at_the_end_holds_a_command_up(tmp_path, body):
    code, _, errors, seconds = ended(tmp_path, body, signal.SIGINT, patience=20)
    assert (code, errors) == (130, line())
    assert seconds < 5


def test_what_is_done_is_not_killed_while_the_interpreter_ends(tmp_path):
    """It calls the finalizers of modules' objects after it has taken its handlers away."""
    body = """
        class Slow:
            def __del__(self, sleep=time.sleep, write=os.write):
                write(1, b"ending")
                sleep(1)
        globals()["slow"] = Slow()
        """
    code, output, errors, _ = ended(tmp_path, body, signal.SIGINT, pause=0.1)
    assert (code, output, errors) == (0, "after\nending", "")


def test_nothing_is_said_of_what_fails_in_other_threads_after_a_signal(tmp_path):
    """Libraries in C++ print what their threads find closed by the hook of all exceptions."""
    body = """
        def printing():
            time.sleep(0.5)
            try:
                raise RuntimeError("closed")
            except RuntimeError:
                sys.excepthook(*sys.exc_info())
        def raising():
            time.sleep(0.5)
            raise RuntimeError("closed")
        for work in (printing, raising):
            threading.Thread(target=work, daemon=True).start()
        try:
            time.sleep(60)
        finally:
            time.sleep(0.8)
        """
    code, _, errors, _ = ended(tmp_path, body, signal.SIGINT, patience=20)
    assert (code, errors) == (130, line())


GRACEFUL = {
    "signal": """
        ends = threading.Event()
        signal.signal(signal.SIGTERM, lambda number, frame: ends.set())
        ends.wait()
        time.sleep(0.8)
        sys.exit(7)
        """,
    "asyncio": """
        async def serve():
            ends = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ends.set)
            await ends.wait()
            await asyncio.sleep(0.8)
            sys.exit(7)
        asyncio.run(serve())
        """,
}


@pytest.mark.parametrize("body", GRACEFUL.values(), ids=GRACEFUL)
def test_a_server_may_end_gracefully_in_its_own_time(tmp_path, body):
    code, _, errors, _ = ended(tmp_path, body, signal.SIGTERM, patience=0.3)
    assert (code, errors) == (7, "")


def test_an_ignored_signal_stays_ignored(tmp_path):
    body = "time.sleep(0.6)"
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(body=textwrap.indent(body, "    "), patience=0.2))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start([sys.executable, str(program)], subprocess.PIPE, subprocess.PIPE)
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for_line(process)
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=30) == (b"after\n", b"")
    assert process.returncode == 0


def test_without_a_signal_a_command_ends_as_ever(tmp_path):
    assert ended(tmp_path, "pass")[:3] == (0, "after\n", "")
    code, output, errors, _ = ended(tmp_path, "raise ValueError('a bug')")
    assert code == 1 and output == "" and errors.endswith("ValueError: a bug\n")
