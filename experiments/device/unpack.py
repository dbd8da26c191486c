"""Joins, checks and unpacks on the machine without a network what pack.py made; needs Python 3.12 and nothing else.

Command:  python3 unpack.py PIECES... TO     (several folders, where the pieces came in several transfers)
          python3 unpack.py --command TO     (only says how to measure with what is unpacked)

Leaves TO/site (packages), TO/scenes (scene bundles) and TO/kernels (where they were packed), and prints the command
that measures everything.
"""

import hashlib
import json
import lzma
import sys
import tarfile
from pathlib import Path

MANIFEST, NAME = "manifest.json", "carry.tar.xz"


class Joined:
    """Several files read as one, with a hash of what was read."""

    def __init__(self, paths: list[Path]):
        self.files, self.digest = [path.open("rb") for path in paths], hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Returns the next bytes, at most `size`; none at the end."""
        while self.files:
            block = self.files[0].read(size)
            if block:
                self.digest.update(block)
                return block
            self.files.pop(0).close()
        return b""


def unpack(sources: list[Path], to: Path) -> None:
    """Unpacks the pieces in some folders into a new one; ends with a message where one is missing or damaged."""
    found = {path.name: path for source in sources for path in source.iterdir() if path.is_file()}
    if MANIFEST not in found:
        raise SystemExit(f"no {MANIFEST} in {', '.join(map(str, sources))}; carry it with the pieces")
    manifest = json.loads(found[MANIFEST].read_text())
    missing = [name for name in manifest["pieces"] if name not in found]
    if missing:
        raise SystemExit(f"missing: {', '.join(missing)}; carry them as well")
    for name, digest in manifest["pieces"].items():
        if hashlib.sha256(found[name].read_bytes()).hexdigest() != digest:
            raise SystemExit(f"{found[name]} is damaged; carry it again")
    if to.exists():
        raise SystemExit(f"{to} is there already; choose a new folder")
    joined = Joined([found[name] for name in manifest["pieces"]])
    with lzma.open(joined) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
        archive.extractall(to, filter="data")


def command(to: Path) -> str:
    """Returns the command that measures everything with what was unpacked."""
    to = to.resolve()
    return (
        f"PYTHONPATH={to}/site RLGEN_CACHE={to}/cache WARP_CACHE_PATH={to}/kernels MUJOCO_GL=disable "
        "XLA_PYTHON_CLIENT_PREALLOCATE=false "  # Warp has memory of its own
        f"python3 -m rlgen bench device --out ${{OUT:-results}}/device --scenes {to}/scenes"
    )


def main() -> None:
    """Unpacks what the command line names."""
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    *sources, to = map(Path, sys.argv[1:])
    if sys.argv[1] != "--command":
        unpack(sources, to)
    print(command(to))


if __name__ == "__main__":
    main()
