"""The readers under test, each as a function from a path to a digest, and the process in which they run.

A reader either gives a digest of all that it read or raises a `UserError` of one line. The process reports anything
else, and what an attacker is after: memory, files that are written or read outside of the data, programs, connections.
"""

import hashlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from rlgen.core.errors import UserError

# Of Python's audit events: those of files, which have the path first, and those that no reader needs.
_FILES = ("open", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")
_NEVER = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "socket.connect",
    "pickle.find_class",
)
# Where libraries read their own files.
_OWN = (sys.prefix, sys.base_prefix, "/usr", "/proc", "/sys", "/dev", str(Path(__file__).resolve().parents[2]))


@dataclass
class Reading:
    """The result of reading a file or folder.

    Attributes:
      digests: of what it read, by the door that it was read through.
      refusals: messages of `UserError`s, by door.
      problems: that a check against the card found.
      error: end of a traceback; empty if there was none.
      outside: what it did outside of the data.
      seconds: that it took.
      peak_mb: largest memory of the process meanwhile.
    """

    digests: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    error: str = ""
    outside: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak_mb: float = 0.0


def read_dataset(folder: Path) -> str:
    """Returns a digest of all episodes and their decoded images."""
    from rlgen.data.dataset import open_dataset

    total = hashlib.sha256()
    for episode in open_dataset(folder):
        arrays = (episode.state, episode.joint_state, episode.action, episode.image, episode.wrist_image)
        try:
            _update(total, [np.asarray(part) for part in arrays if part is not None])
        except UserError as error:  # of an image, which does not know where it comes from
            raise UserError(f"{folder}: {error}") from error
        total.update((episode.language_instruction + episode.file_path).encode())
    return total.hexdigest()


def read_for_training(folder: Path) -> str:
    """Returns a digest of all frames as training reads them."""
    from rlgen.data.frames import open_frames, read_frames

    source = open_frames(folder, size=8)
    batch = read_frames(source, np.arange(len(source.table)), 2)
    total = hashlib.sha256()
    _update(total, [batch[name] for name in sorted(batch) if name != "prompt"])
    total.update("|".join(batch["prompt"]).encode())
    return total.hexdigest()


def read_pages(folder: Path) -> str:
    """Returns a digest of the list of a dataset's episodes and of the last one's page."""
    from rlgen.curation.viewer import Pages
    from rlgen.report.episode_list import episode_link

    pages = Pages([folder])
    text = (pages.page("index.html") or "") + (pages.page(episode_link(len(pages.rows) - 1)) or "")
    return hashlib.sha256(text.encode()).hexdigest()


def read_starts(folder: Path) -> str:
    """Returns a digest of the initial states and of the success rate on the card."""
    from rlgen.curation.compare import rate_on_cards
    from rlgen.data.dataset import open_dataset
    from rlgen.data.index import read_initial_states

    states = read_initial_states(folder, len(open_dataset(folder)))
    total = hashlib.sha256(str(rate_on_cards(folder)).encode())
    _update(total, [state for state in states if state is not None])
    return total.hexdigest()


def read_recorded(path: Path) -> str:
    """Returns a digest of a recorded episode."""
    from rlgen.data.episode import episode_digest, load_episode

    return episode_digest(load_episode(path))


def read_run(folder: Path) -> str:
    """Returns a digest of a run's configuration and results."""
    from rlgen.configs.stored import to_json
    from rlgen.training.run import open_run

    run = open_run(folder)
    results = [run.result(stage) for stage in ("demos", "collect")]
    text = str((to_json(run.config), run.assets, results, run.seconds("demos")))
    return hashlib.sha256(text.encode()).hexdigest()


def read_demos(path: Path) -> str:
    """Returns a digest of all demonstrations of an HDF5 file, whatever their numbers.

    They are read as commands read them that do not skip bad ones.
    """
    from rlgen.data.episode import episode_digest
    from rlgen.data.formats.hdf5.reader import iterate_demos

    digests = sorted(episode_digest(episode) for _, episode in iterate_demos(path))
    return hashlib.sha256("".join(digests).encode()).hexdigest()


DOORS: dict[str, dict[str, Callable[[Path], str]]] = {
    "dataset": {"read": read_dataset, "train": read_for_training, "show": read_pages, "starts": read_starts},
    "foreign": {"read": read_dataset, "train": read_for_training, "show": read_pages},
    "episode": {"read": read_recorded},
    "run": {"read": read_run},
    "demos": {"read": read_demos},
}
"""The doors of each kind of data."""


class ReaderProcess:
    """A process that reads what it is asked to, started when it is needed. Use it in a `with` statement."""

    def __init__(self) -> None:
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    def __enter__(self) -> "ReaderProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def read(self, kind: str, path: Path, seconds: float) -> Reading | str:
        """Returns what came of reading a file or folder, `hung`, or `crashed`; the next one gets a new process then.

        Args:
          kind: of the data, one of `DOORS`.
          path: of the file or folder.
          seconds: of processor time after which it counts as hung, or ten times as many of a clock.
        """
        if self._process is None or self._connection is None:
            context = get_context("spawn")
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
            self._process.start()
            theirs.close()
        try:
            self._connection.send((kind, str(path)))
            spent, end = self._processor_time(), time.monotonic() + 10 * seconds
            while time.monotonic() < end and self._processor_time() - spent < seconds:
                if self._connection.poll(0.5):
                    return self._connection.recv()
            outcome = "hung"
        except (EOFError, BrokenPipeError, ConnectionResetError):
            outcome = "crashed"
        self._end()
        return outcome

    def _processor_time(self) -> float:
        """Returns the seconds that the process has worked."""
        assert self._process is not None
        try:
            after_name = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended, which the connection says
            return 0.0
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")

    def _end(self) -> None:
        if self._process is not None and self._connection is not None:
            self._connection.close()
            self._process.kill()
            self._process.join()
        self._process = self._connection = None


def _serve(connection: Connection) -> None:
    watch = _Watch()
    sys.addaudithook(watch)
    while True:
        try:
            kind, path = connection.recv()
        except EOFError:
            return
        connection.send(_read(Path(path), kind, watch))


def _read(path: Path, kind: str, watch: "_Watch") -> Reading:
    reading, start = Reading(), time.monotonic()
    _reset_peak()
    with watch.only(path):
        for door, function in DOORS[kind].items():
            try:
                reading.digests[door] = function(path)
            except UserError as error:
                reading.refusals[door] = str(error)
            except BaseException:
                reading.error = f"{door}: " + " | ".join(traceback.format_exc().splitlines()[-5:])
        if kind == "dataset":
            try:
                reading.problems = _verify(path)
            except UserError as error:
                reading.problems = [str(error)]
            except BaseException:
                reading.error = "verify: " + " | ".join(traceback.format_exc().splitlines()[-5:])
    reading.outside = sorted(set(watch.found))[:5]
    reading.seconds, reading.peak_mb = time.monotonic() - start, _peak_mb()
    return reading


def _verify(folder: Path) -> list[str]:
    from rlgen.data.verify import verify_dataset

    return verify_dataset(folder)


def _update(total: Any, arrays: list[np.ndarray]) -> None:
    for array in arrays:
        total.update(f"{array.shape}{array.dtype}".encode())
        total.update(np.ascontiguousarray(array).tobytes())


class _Watch:
    """An audit hook that lists what is done outside of a file or folder."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._inside: str | None = None

    def only(self, path: Path) -> "_Watch":
        """Watches until the end of a `with` statement."""
        self._next = str(path.absolute())
        return self

    def __enter__(self) -> None:
        self.found, self._inside = [], self._next

    def __exit__(self, *_: object) -> None:
        self._inside = None

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._inside is None:
            return
        if event in _NEVER:
            self.found.append(f"{event} {str(arguments)[:100]}")
        elif event in _FILES:
            for path in self._paths(event, arguments):
                if not (path + "/").startswith((self._inside + "/", *(f"{own}/" for own in _OWN))):
                    self.found.append(f"{event} {path}")

    def _paths(self, event: str, arguments: tuple[Any, ...]) -> Iterator[str]:
        for argument in arguments[: 2 if event in ("os.rename", "os.link", "os.symlink") else 1]:
            if isinstance(argument, str | bytes | Path):
                text = argument.decode(errors="replace") if isinstance(argument, bytes) else str(argument)
                yield str(Path(text).absolute())


def _reset_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _peak_mb() -> float:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024
