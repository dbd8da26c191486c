"""Arrays of the reference material, and a check that tests read every one of them.

An array that nobody looks up is compared with nothing, and no test fails. `Arrays` remembers what was looked up. Where
all tests of the files that `READERS` names have passed, `ReadCheck` fails the session if an array is left over that is
not in `NOT_COMPARED` either.
"""

import os
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from shared import shared_dir

TESTS = Path(__file__).resolve().parent

# Files below `golden`, and the tests that read all of their arrays.
READERS = {
    "dppo/public/01_schedules.npz": ("diffusion/test_schedules.py",),
    "dppo/public/02_p_mean_var.npz": ("diffusion/test_samplers.py",),
    "dppo/public/03_sampler.npz": ("diffusion/test_samplers.py",),
    "dppo/public/04_logprobs.npz": ("diffusion/test_likelihood.py",),
    "dppo/public/05_ppo_loss.npz": ("rl/test_losses.py",),
    "dppo/public/06_rl_utils.npz": ("rl/test_returns.py", "rl/test_scaling.py", "rl/test_schedules.py"),
    "dppo/public/07_diffusion_mlp.npz": ("nets/test_mlp.py",),
    "dppo/public/07_random_shift.npz": ("nets/test_random_shift.py",),
    "dppo/public/07_unet1d_*.npz": ("nets/test_unet1d.py",),
    "dppo/public/07_vision_*.npz": ("nets/test_vision_golden.py",),
    "dppo/public/08_gaussian.npz": ("policies/test_gaussian_golden.py",),
    "dppo/public/09_bc_loss.npz": ("diffusion/test_training.py",),
    "openpi/public/misc/*.npz": ("vla/test_openpi_misc.py",),
    "openpi/public/pi0*/*.npz": ("vla/test_flow.py", "vla/test_openpi_model.py"),
    "rlds/libero_spatial_observation.npz": ("curation/test_oracle.py",),
}
# Tests of programs that are compared with the reference, and so compiled as users' are.
COMPARED = frozenset(name for names in READERS.values() for name in names) | {"vla/test_weights.py"}

NOT_COMPARED = {
    "dppo/public/05_ppo_loss.npz:*/ft_delta_scale": "how far the reference moved its weights to make `ft`",
    "dppo/public/08_gaussian.npz:*/delta_scale": "how far the reference moved its weights to make `actor`",
    "dppo/public/08_gaussian.npz:fixed_std/*actor/logvar_m??": "a fixed standard deviation has no range",
}

READ: set[str] = set()


@cache
def _file(name: str) -> dict[str, np.ndarray]:
    with np.load(shared_dir("golden") / name) as arrays:
        return dict(arrays)


class Arrays(Mapping[str, np.ndarray]):
    """The arrays of a file below `golden`, or those whose path begins with `prefix`, by the rest of their path.

    Names alone read nothing: filter them before an array is looked up.
    """

    def __init__(self, name: str, prefix: str = ""):
        self.name, self.prefix = name, prefix
        self._arrays = _file(name)

    def __getitem__(self, key: str) -> np.ndarray:
        array = self._arrays[self.prefix + key]
        READ.add(f"{self.name}:{self.prefix}{key}")
        return array

    def __contains__(self, key: object) -> bool:
        return f"{self.prefix}{key}" in self._arrays

    def __iter__(self) -> Iterator[str]:
        return (key[len(self.prefix) :] for key in self._arrays if key.startswith(self.prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def below(self, prefix: str) -> "Arrays":
        """The arrays whose path begins with `prefix/`, by the rest of their path."""
        return Arrays(self.name, f"{self.prefix}{prefix}/")


def all_arrays() -> list[str]:
    """All arrays of the reference material as `FILE:PATH`."""
    root = shared_dir("golden")
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.npz"))
    return [f"{file}:{key}" for file in files for key in _keys(root / file)]


def _keys(path: Path) -> list[str]:
    with np.load(path) as arrays:
        return list(arrays.files)


def readers(array: str) -> tuple[str, ...]:
    """The tests that read an array; none for a file that `READERS` does not name."""
    file = array.partition(":")[0]
    return next((tests for pattern, tests in READERS.items() if fnmatchcase(file, pattern)), ())


def left_over(read: set[str], passed: set[str]) -> list[str]:
    """Arrays that were neither read nor excused although all tests of the files that read them, `passed`, have run."""
    return [
        array
        for array in all_arrays()
        if passed.issuperset(readers(array))
        and array not in read
        and not any(fnmatchcase(array, pattern) for pattern in NOT_COMPARED)
    ]


class ReadCheck:
    """A plugin of pytest that fails a session which left arrays over, whichever of its processes read the others."""

    def __init__(self) -> None:
        self.read: set[str] = set()
        self.deselected: set[str] = set()
        self.collected: dict[str, str] = {}
        self.passed: set[str] = set()
        self.left: list[str] = []

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Remembers whose tests do not all run."""
        self.deselected |= {_place(item.path) for item in items}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Remembers which tests there are."""
        self.collected = {item.nodeid: _place(item.path) for item in session.items if _place(item.path) in COMPARED}
        named = (argument.partition("::") for argument in session.config.args)
        base = session.config.invocation_params.dir
        self.deselected |= {_place((base / path).resolve()) for path, colons, _ in named if colons}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remembers what has passed."""
        if report.when == "call" and report.passed:
            self.passed.add(report.nodeid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node, error) -> None:
        """Takes over what a worker has collected and read."""
        output = getattr(node, "workeroutput", {}).get("goldens")
        if output is not None:
            self.read |= set(output["read"])
            self.deselected |= set(output["deselected"])
            self.collected |= output["collected"]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hands over what this process has read, or compares what all have."""
        self.read |= READ
        if hasattr(session.config, "workeroutput"):
            output = {"read": sorted(self.read), "deselected": sorted(self.deselected), "collected": self.collected}
            session.config.workeroutput["goldens"] = output
            return
        places = set(self.collected.values()) - self.deselected
        places -= {place for test, place in self.collected.items() if test not in self.passed}
        if places:
            self.left = left_over(self.read, places)
        if self.left:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter) -> None:
        """Names the arrays that are left over."""
        if self.left:
            terminalreporter.section("reference arrays that no test compares", red=True)
            for array in self.left:
                terminalreporter.line(array)


def _place(path: Path) -> str:
    return os.path.relpath(path, TESTS)
