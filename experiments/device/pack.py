"""Packs what `rlgen bench device` needs on a machine with a GPU and no network into pieces of limited size.

Command:  uv run python experiments/device/pack.py OUT [--assets DIR] [--have jax jaxlib numpy ...] [--piece-mib 60]
Cost:     a quarter of an hour of a core and 3 GB, for compression; the registry is asked for the wheels.
Expected: pieces of 60 MiB at most, `manifest.json` with their hashes, and `unpack.py`.

Python, jax with CUDA and what they bring are expected there (`--have`); wheels are for Python 3.12 on Linux x86-64.
Weights, datasets and compiled programs are not carried: all parameters are fresh and all data synthetic.
"""

import argparse
import hashlib
import json
import lzma
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from rlgen.bench.device.world import TASK
from rlgen.core.process import cache_folder
from rlgen.libero.scenes.assets import find_assets
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.warp.device import VERSIONS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MANIFEST, NAME = "manifest.json", "carry.tar.xz"
TASKS = (TASK, "libero_spatial/0", "libero_object/0", "libero_goal/0", "libero_10/3", "libero_90/0")
# What the parts import, besides what the machine has with jax.
PACKAGES = (
    *(
        "absl-py",
        "aiofiles",
        "charset-normalizer",
        "chex",
        "cloudpickle",
        "docstring-parser",
        "etils",
        "filelock",
        "flax",
    ),
    *("fsspec", "glfw", "google-crc32c", "googleapis-common-protos", "h5py", "humanize", "importlib-resources", "jax"),
    *("jaxlib", "jaxtyping", "llvmlite", "markdown-it-py", "mdurl", "ml-dtypes", "msgpack", "mujoco", "mujoco-mjx"),
    *("numba", "numpy", "opencv-python-headless", "opt-einsum", "optax", "orbax-checkpoint", "pillow", "protobuf"),
    *(
        "psutil",
        "pygments",
        "pyopengl",
        "pyyaml",
        "rich",
        "scipy",
        "simplejpeg",
        "simplejson",
        "tensorstore",
        "toolz",
        "treescope",
    ),
    *("trimesh", "typeguard", "typing-extensions", "tyro", "uvloop", "wadler-lindig", "warp-lang", "zipp"),
)
# A machine with jax for GPUs has these.
HAVE = ("jax", "jaxlib", "ml-dtypes", "numpy", "opt-einsum", "scipy")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "any")
PYTHON = "3.12"
# Of compiled kernels; the machine code alone is read.
SOURCES = ("*.cu", "*.cpp", "*.o")
# Scenes share most of their meshes, so that a window as large as several of them halves what is carried.
WINDOW = 256 << 20
NEEDLESS = ("tests", "test", "testdata", "test_data", "benchmarks", "include", "examples")


def main() -> None:
    """Packs packages, sources and scenes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="new folder for the pieces")
    parser.add_argument("--assets", type=Path, help="the benchmark's own assets; placeholder assets by default")
    parser.add_argument("--have", nargs="*", default=list(HAVE), help="packages that the machine has")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), help="whose scenes are carried")
    parser.add_argument("--kernels", type=Path, help="what kernels.py compiled, so that nothing waits for it there")
    parser.add_argument("--piece-mib", type=int, default=60, help="largest piece; a transfer may be limited to 64 MiB")
    arguments = parser.parse_args()
    if arguments.out.exists():
        raise SystemExit(f"{arguments.out} is there already; choose a new folder")
    with tempfile.TemporaryDirectory() as work:
        tree = Path(work) / "tree"
        download(pinned(PACKAGES, arguments.have), Path(work) / "wheels")
        unpack_wheels(sorted((Path(work) / "wheels").glob("*.whl")), tree / "site")
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "rlgen", tree / "site" / "rlgen", ignore=ignore)
        for folder in scenes(arguments.tasks, arguments.assets):
            shutil.copytree(folder, tree / "scenes" / folder.name)
        if arguments.kernels is not None:
            shutil.copytree(arguments.kernels, tree / "kernels", ignore=shutil.ignore_patterns(*SOURCES))
        pieces = compress(tree, arguments.out, arguments.piece_mib << 20)
    shutil.copy(HERE / "unpack.py", arguments.out)
    for piece in pieces:
        print(f"{piece}: {piece.stat().st_size / 2**20:.1f} MiB")
    print("there: python3 unpack.py FOLDER... carried, which prints the command that measures")


def pinned(names: Iterable[str], have: Sequence[str]) -> list[str]:
    """Returns packages that the machine lacks, with their versions in `requirements.txt` for its Python.

    MuJoCo is the newer one, for the world on a GPU: no scene is built there.
    """
    from packaging.requirements import Requirement

    environment = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0", "sys_platform": "linux"}
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    known = [Requirement(line) for line in lines if line and not line.startswith("#")]
    fitting = [one for one in known if one.marker is None or one.marker.evaluate(environment)]
    versions = {one.name.lower(): f"{one.name}{one.specifier}" for one in (*fitting, *map(Requirement, VERSIONS))}
    return [versions[name] for name in names if name not in have and name in versions]


def download(requirements: Sequence[str], to: Path) -> None:
    """Downloads wheels for the machine's platform, without what they depend on."""
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    pip = ["uv", "tool", "run", "pip"] if shutil.which("uv") else [sys.executable, "-m", "pip"]
    options = ["--only-binary=:all:", "--no-deps", "--python-version", PYTHON, "--implementation", "cp"]
    subprocess.run([*pip, "download", "--quiet", *options, *platforms, "--dest", str(to), *requirements], check=True)


def unpack_wheels(wheels: Sequence[Path], site: Path) -> None:
    """Unpacks wheels into one folder, without tests, headers and examples."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if not set(Path(name).parts[1:-1]) & set(NEEDLESS):
                    archive.extract(name, site)


def scenes(tasks: Sequence[str], assets: Path | None) -> list[Path]:
    """Returns the folders of the scene bundles of tasks, built where they are missing."""
    cache = cache_folder()
    source = find_assets(assets, placeholders=assets is None, cache=cache)
    return [load_scene(task, source, cache).folder for task in tasks]


def compress(tree: Path, out: Path, largest: int) -> list[Path]:
    """Compresses a folder into pieces, with a manifest of their hashes.

    Args:
      tree: the folder.
      out: new folder for pieces and manifest.
      largest: bytes of a piece.

    Returns:
      The pieces.
    """
    out.mkdir(parents=True)
    whole = out / NAME
    size = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": min(WINDOW, max(1 << 20, size))}]
    with lzma.open(whole, "wb", filters=filters) as file, tarfile.open(fileobj=file, mode="w|") as archive:
        for path in sorted(tree.iterdir()):
            archive.add(path, path.name)
    pieces, hashes = [], {}
    with whole.open("rb") as file:
        while block := file.read(largest):
            piece = out / f"{NAME}.{len(pieces):02d}"
            piece.write_bytes(block)
            pieces.append(piece)
            hashes[piece.name] = hashlib.sha256(block).hexdigest()
    whole.unlink()
    (out / MANIFEST).write_text(json.dumps({"python": PYTHON, "pieces": hashes}, indent=1))
    return pieces


if __name__ == "__main__":
    main()
