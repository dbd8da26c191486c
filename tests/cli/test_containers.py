"""Where the package cannot be written, and there is no home: containers with a user of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rlgen
from rlgen.core.errors import UserError
from rlgen.core.process import cache_errors, cache_folder

# Compiles one of the package's functions, and says where JAX's programs would go.
COMPILE = """
import os
import numpy as np
import rlgen.libero.physics.kernel
from rlgen.core.process import prepare_process
from rlgen.data.resize import resize_image
prepare_process()
assert resize_image(np.zeros((8, 8, 3), np.uint8), 4).shape == (4, 4, 3)
print(os.environ.get("JAX_COMPILATION_CACHE_DIR"), os.environ.get("NUMBA_CACHE_DIR"))
"""
NO_HOME = "import pwd\ndef getpwuid(uid): raise KeyError(uid)\npwd.getpwuid = getpwuid\n"
COMMAND = "import sys\nfrom rlgen.cli.main import main\nmain(sys.argv[1:])\n"


def without_privileges() -> list[str]:
    """Words before a command in which a folder's mode counts for root as well."""
    if os.geteuid():
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root, and no setpriv to drop what root may")
    return ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package that cannot be written."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(Path(rlgen.__file__).parent, folder / "rlgen", ignore=shutil.ignore_patterns("__pycache__"))
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    yield folder
    for path in folders:
        path.chmod(0o755)


@pytest.fixture
def closed(tmp_path):
    """A folder in which nothing can be made."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    yield folder
    folder.chmod(0o755)


@pytest.fixture
def start(package, tmp_path):
    """Runs a program with the copy of the package, and with no more variables than given."""
    prefix = without_privileges()

    def run(code: str, *words: object, cwd: Path = tmp_path, **variables: object) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(package), "RLGEN_OFFLINE": "1"}
        environment |= {name: str(value) for name, value in variables.items()}
        command = [*prefix, sys.executable, "-c", code, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)

    return run


def test_without_any_cache_everything_is_compiled_anew(start, closed):
    done = start(COMPILE, HOME=closed, TMPDIR="/nowhere/at/all")
    assert (done.returncode, done.stdout, done.stderr) == (0, "None None\n", "")


def test_what_is_compiled_lies_below_the_cache(start, closed, tmp_path):
    cache = tmp_path / "cache"
    done = start(COMPILE, HOME=closed, RLGEN_CACHE=cache)
    assert (done.returncode, done.stdout) == (0, f"{cache / 'jax'} {cache / 'numba'}\n"), done.stderr
    assert list((cache / "numba").rglob("*_blend_rows*.nbc"))


def test_without_a_home_and_a_passwd_entry_nothing_fails_that_needs_no_cache(start):
    done = start(NO_HOME + COMPILE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "None None\n", "")


@pytest.mark.parametrize("home", ["closed", "none", "named"])
def test_where_a_cache_is_needed_one_line_names_its_folder_and_the_variable(start, closed, tmp_path, home):
    words = ["demos", "record", "libero_object/6", "--placeholders", "--out", tmp_path / "out"]
    if home == "none":
        done, folder = start(NO_HOME + COMMAND, *words), "~/.cache/rlgen"
    elif home == "closed":
        done, folder = start(COMMAND, *words, HOME=closed), str(closed / ".cache/rlgen")
    else:
        done, folder = start(COMMAND, *words, RLGEN_CACHE=closed), str(closed)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("rlgen: ") and folder in done.stderr and "RLGEN_CACHE" in done.stderr
    assert not (tmp_path / "out").exists()


COMMANDS = {
    "demos record": ("libero_object/6",),
    "quickstart": ("--placeholders",),
    "run demos": ("--placeholders",),
    "expert": ("libero_object/6", "--placeholders"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_working_directory_that_cannot_be_written_is_one_line(start, closed, cache, command):
    if not os.access(cache, os.W_OK):
        pytest.skip("the cache of the tests cannot be written")
    words = [*command.split(), *COMMANDS[command]]
    done = start(COMMAND, *words, cwd=closed, RLGEN_CACHE=cache, HOME=closed)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("rlgen: ")
    assert "Traceback" not in done.stderr and list(closed.iterdir()) == []


def test_the_cache_is_the_variables_folder_or_that_of_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("RLGEN_CACHE", "~/mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("RLGEN_CACHE")
    assert cache_folder() == tmp_path / ".cache/rlgen"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x/rlgen"


def test_a_full_disk_is_one_line_that_names_the_cache(tmp_path):
    no_space = pytest.raises(UserError, match=r"cache .*: No space left on device; set RLGEN_CACHE")
    with no_space as caught, cache_errors(tmp_path), open("/dev/full", "w") as file:
        file.write("x" * 100_000)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_the_benchmark_writes_no_log_that_may_be_another_users(tmp_path):
    code = (
        "import logging, pathlib, sys\nfrom rlgen.libero.scenes.build import prepare\n"
        "prepare(sys.argv[1], pathlib.Path(sys.argv[1]))\nimport robosuite\n"
        "handlers = logging.getLogger('robosuite_logs').handlers\n"
        "assert not any(isinstance(one, logging.FileHandler) for one in handlers), handlers\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
