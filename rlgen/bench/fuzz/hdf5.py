"""Damage to files of demonstrations, as disks, networks and people do it, and whether reading notices."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from rlgen.bench.fuzz.damage import BYTE_KINDS, damage_bytes
from rlgen.data.episode import episode_digest
from rlgen.data.formats.hdf5.guard import GuardedReader
from rlgen.data.formats.hdf5.reader import iterate_demos

EDITS = ("dtype", "shape", "renamed", "removed", "attribute")
KINDS = ("bits", "header bits", "bytes", "truncated", "zeroed", *EDITS)


def damage(source: Path, target: Path, kind: str, random: np.random.Generator) -> None:
    """Writes a copy of a file with one kind of damage at a random position.

    Args:
      source: an HDF5 file of demonstrations.
      target: the damaged copy.
      kind: one of `KINDS`.
      random: draws the position.
    """
    data = source.read_bytes()
    if kind in ("bits", "header bits"):
        data = damage_bytes(data, "bits", random, _outside_arrays(source) if kind == "header bits" else None)
    elif kind in BYTE_KINDS:
        data = damage_bytes(data, kind, random)
    target.write_bytes(data)
    if kind in EDITS:
        with h5py.File(target, "r+") as file:
            edit(file["data"], kind, random)


def edit(data: h5py.Group, kind: str, random: np.random.Generator) -> None:
    """Makes a change that leaves a valid HDF5 file.

    Args:
      data: the group `data` of the file.
      kind: one of `EDITS`.
      random: draws the place.
    """
    demo = data[str(random.choice(list(data)))]
    key = str(random.choice([name for name in demo if isinstance(demo[name], h5py.Dataset)]))
    if kind == "attribute":
        owner = demo if random.random() < 0.7 else data
        name = str(random.choice(list(owner.attrs)))
        del owner.attrs[name]
        if random.random() < 0.7:
            owner.attrs[name] = (3, "?", np.zeros(4), np.nan)[random.integers(4)]
    elif kind == "renamed" and random.random() < 0.3:
        data.move(demo.name, f"{data.name}/{random.choice(['demo', 'demo_x', 'demo_77'])}")
    else:
        values = demo[key][()]
        attributes = dict(demo[key].attrs)
        del demo[key]
        if kind == "renamed":
            key += "_old"
        if kind == "dtype":
            values = values.astype(random.choice(["<i2", "<f4", ">f8", "S8", "u1"]))
        if kind == "shape":
            values = (values.T, values[:-1], values[None], values[0])[random.integers(4)]
        if kind != "removed":
            demo[key] = values
            demo[key].attrs.update(attributes)


def _outside_arrays(path: Path) -> np.ndarray:
    """Returns the positions of the bytes that are not the values of an array."""
    mask = np.ones(path.stat().st_size, bool)
    with h5py.File(path) as file:

        def exclude(_: str, item: h5py.Dataset | h5py.Group) -> None:
            if not isinstance(item, h5py.Dataset):
                return
            if item.chunks is None:
                start = item.id.get_offset()
                mask[start : start + item.id.get_storage_size()] = False
            else:
                for index in range(item.id.get_num_chunks()):
                    chunk = item.id.get_chunk_info(index)
                    mask[chunk.byte_offset : chunk.byte_offset + chunk.size] = False

        file.visititems(exclude)
    return np.flatnonzero(mask)


COUNTS = ("files", "whole", "bad", "refused", "crashed", "hung", "errors", "altered", "lost")


def fuzz(source: Path, folder: Path, jobs: Iterable[tuple[str, int]], *, patience: float = 20.0) -> Counter[str]:
    """Damages a file once for every kind and seed, and reads the result as `--skip-bad --clip` does.

    Args:
      source: an HDF5 file of demonstrations.
      folder: of the damaged copies, which are removed again.
      jobs: kind of damage and seed of each copy.
      patience: seconds after which a read counts as hung.

    Returns:
      The counts of `COUNTS`: `files`; those where the library `crashed` or `hung`, which costs a file and nothing
      else; `errors` that are not one line or do not name the file; `whole` files; `bad` episodes and `refused`
      files; and two that must be 0: `altered`, episodes whose values are not the original's, and `lost`, episodes
      of a readable file that are neither returned nor counted.
    """
    originals = [episode_digest(episode) for _, episode in iterate_demos(source, clip=True)]
    found: Counter[str] = Counter()
    with GuardedReader(patience) as guard:
        for kind, seed in jobs:
            target = folder / f"{kind.replace(' ', '_')}-{seed}.hdf5"
            damage(source, target, kind, np.random.default_rng((seed, *kind.encode())))
            found.update(_read(target, guard, originals))
            target.unlink()
    return found


def _read(path: Path, guard: GuardedReader, originals: list[str]) -> Counter[str]:
    check = guard.check(path, clip=True)
    messages = [*check.bad.values(), *([check.problem] if check.problem else [])]
    found = Counter(dict.fromkeys(COUNTS, 0))
    found.update(files=1, bad=len(check.bad), refused=bool(check.problem))
    found["crashed"] = "crashed" in check.problem
    found["hung"] = "not read after" in check.problem
    found["errors"] = sum("\n" in message or path.name not in message for message in messages)
    if check.problem:
        return found
    good = dict(iterate_demos(path, clip=True, only=check.good))
    digests = [episode_digest(episode) for episode in good.values()]
    found["altered"] = sum(value not in originals for value in digests)
    found["lost"] = max(0, len(originals) - len(good) - len(check.bad))
    found["whole"] = not check.bad and not found["altered"] and not found["lost"]
    return found
