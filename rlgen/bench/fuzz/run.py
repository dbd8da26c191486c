"""The fuzz: damaged copies of good data, read in a process of their own, and what became of each.

with ReaderProcess() as process:
counts = Fuzz("dataset", folder, scratch, process).run(range(1000))
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from rlgen.bench.fuzz import hdf5
from rlgen.bench.fuzz.damage import BYTE_KINDS, JSON_KINDS, damage_bytes, damage_json
from rlgen.bench.fuzz.readers import ReaderProcess, Reading
from rlgen.bench.fuzz.records import damage_records

COUNTS = (
    "files",
    "unharmed",
    "refused",
    "noticed",
    "unnoticeable",
    "unnoticed",
    "errors",
    "crashed",
    "hung",
    "large",
    "outside",
)
"""`files` in all. Of each that was read: `unharmed` gave the same through every door; `refused` gave one line through
one of them; `noticed` gave something else, which the check against the card names; `unnoticeable` gave something else
and has no hash; `unnoticed`, which must be 0, gave something else and has one. The others must be 0 as well: `errors`
with a traceback or more than one line, processes that `crashed`, reads that `hung` (worked for more than `SECONDS`),
took more than `LARGEST_MB` (`large`), or did something `outside` of the data."""
MUST_BE_0 = ("unnoticed", "errors", "crashed", "hung", "large", "outside")
SECONDS, STARTING = 10.0, 300.0
LARGEST_MB = 1000
_STRUCTURED = (".json", ".jsonl")


@dataclass
class Fuzz:
    """Damage to copies of one file or folder.

    Attributes:
      kind: of the data, one of `readers.DOORS`.
      source: a file or folder that is sound.
      scratch: folder for the damaged copies.
      process: that reads them.
      hashed: whether the data has hashes of all its contents, so that nothing may change unnoticed.
      counts: so far, by the kind of damage.
      examples: the seed and the reading of what must not be.
    """

    kind: str
    source: Path
    scratch: Path
    process: ReaderProcess
    hashed: bool = True
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)

    def run(self, seeds: Iterable[int]) -> dict[str, dict[str, int]]:
        """Reads a copy for each seed; returns the counts of `COUNTS` by the kind of damage."""
        whole = self._read_whole()
        for seed in seeds:
            self._one(seed, whole)
        return {kind: {name: count[name] for name in COUNTS} for kind, count in sorted(self.counts.items())}

    def total(self) -> Counter[str]:
        """Returns the counts over all kinds of damage."""
        return sum(self.counts.values(), Counter(dict.fromkeys(COUNTS, 0)))

    def _read_whole(self) -> Reading:
        whole = self.process.read(self.kind, self.source, STARTING)
        if isinstance(whole, str) or whole.error or whole.refusals or whole.problems:
            raise ValueError(f"{self.source} is not sound: {whole}")
        return whole

    def _one(self, seed: int, whole: Reading) -> None:
        # A dataset of others is named by the folder that it is in.
        target = self.scratch / self.source.parent.name / self.source.name
        shutil.rmtree(self.scratch, ignore_errors=True)
        target.parent.mkdir(parents=True)
        shutil.copytree(self.source, target) if self.source.is_dir() else shutil.copy(self.source, target)
        damage = damage_at_random(target, np.random.default_rng(seed))
        before, found = _files(self.scratch), Counter(files=1)
        reading = self.process.read(self.kind, target, SECONDS)
        if isinstance(reading, str):
            found[reading] = 1
            self._read_whole()  # the new process imports what it needs
        else:
            found.update(_outcome(reading, whole, target, self.hashed))
        found["outside"] += _files(self.scratch) != before
        self.counts.setdefault(damage, Counter()).update(found)
        if any(found[name] for name in MUST_BE_0):
            self.examples.append(f"{self.kind} seed {seed}, {damage}: {dict(found)} {reading}"[:3000])


def _outcome(reading: Reading, whole: Reading, target: Path, hashed: bool) -> Counter[str]:
    found: Counter[str] = Counter()
    refusals = reading.refusals.values()
    found["errors"] = bool(reading.error) or any("\n" in line for line in (*refusals, *reading.problems))
    found["errors"] |= not all(target.name in line for line in refusals)
    found["large"], found["outside"] = reading.peak_mb > LARGEST_MB, bool(reading.outside)
    changed = [door for door, digest in reading.digests.items() if digest != whole.digests[door]]
    if changed:
        found[("noticed" if reading.problems else "unnoticed") if hashed else "unnoticeable"] = 1
    else:
        found["refused" if reading.refusals else "unharmed"] = 1
    return found


def damage_at_random(target: Path, random: np.random.Generator) -> str:
    """Damages a file, or one of a folder, in place, and returns the kind of damage.

    Args:
      target: the file or folder.
      random: draws file, kind and place.
    """
    files = sorted(path for path in target.rglob("*") if path.is_file()) if target.is_dir() else [target]
    path = files[random.integers(len(files))]
    draw = random.random()
    if path.suffix in _STRUCTURED and draw < 0.8:
        kind = str(random.choice(JSON_KINDS))
        # JSON, or a line of JSON lines.
        lines = path.read_text().splitlines(keepends=True) if path.suffix == ".jsonl" else [path.read_text()]
        index = int(random.integers(len(lines))) if len(lines) > 1 else 0
        end = "\n" if path.suffix == ".jsonl" else ""
        lines[index] = damage_json(json.loads(lines[index]), kind, random) + end
        path.write_text("".join(lines))
        return f"JSON: {kind}"
    if path.suffix in (".hdf5", ".h5") and draw < 0.6:
        with h5py.File(path, "r+") as file:
            hdf5.edit(file["data"], str(random.choice(hdf5.EDITS)), random)
        return "below checksums: a dataset or attribute"
    is_table = path.suffix in (".npz", ".parquet") or "record-" in path.name
    if is_table and draw < 0.6 and "meta" not in path.parts:
        return f"below checksums: {damage_records(path, random)}"
    kind = str(random.choice(BYTE_KINDS))
    path.write_bytes(damage_bytes(path.read_bytes(), kind, random))
    return f"bytes: {kind}"


def _files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}
