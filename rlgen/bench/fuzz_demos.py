"""Files of demonstrations, damaged at random, and what reading them came to."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from rlgen.bench.damaged_demos import damage
from rlgen.data.episodes import episode_digest
from rlgen.data.hdf5 import iterate_demos
from rlgen.data.hdf5_guard import GuardedReader

COUNTS = ("files", "whole", "bad", "refused", "crashed", "hung", "errors", "altered", "lost")


def fuzz(source: Path, folder: Path, jobs: Iterable[tuple[str, int]], *, patience: float = 20.0) -> Counter[str]:
    """Damages `source` once for every kind and seed and reads the result as `--skip-bad --clip` does.

    Returns:
      `files`; `crashed` and `hung` where the library did so, which cost a file and nothing else; `errors` that are
      not one line or do not name the file; `whole` files; `bad` and `refused` episodes and files; and what must
      not be: `altered`, episodes whose numbers are not the original's, and `lost`, episodes of a readable file
      that are neither returned nor counted.
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
    messages = [*check.bad.values(), *([check.fault] if check.fault else [])]
    found = Counter(dict.fromkeys(COUNTS, 0))
    found.update(files=1, bad=len(check.bad), refused=bool(check.fault))
    found["crashed"] = "crashed" in check.fault
    found["hung"] = "not read after" in check.fault
    found["errors"] = sum("\n" in message or path.name not in message for message in messages)
    if check.fault:
        return found
    good = dict(iterate_demos(path, clip=True, only=check.good))
    digests = [episode_digest(episode) for episode in good.values()]
    found["altered"] = sum(value not in originals for value in digests)
    found["lost"] = max(0, len(originals) - len(good) - len(check.bad))
    found["whole"] = not check.bad and not found["altered"] and not found["lost"]
    return found
