"""The search for the benchmark's object assets (MJCF, meshes, textures).

It looks in this order: a folder given by the user; an installed LIBERO; the hub dataset that `hf-libero` downloads;
the built-in placeholder assets. Nothing here imports libero, which would ask a question on standard input.
"""

import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from rlgen.core.errors import UserError
from rlgen.core.files import expanded
from rlgen.core.process import cache_errors
from rlgen.libero.placeholders.tree import MARKER, content_key, placeholder_files, write_placeholders
from rlgen.libero.scenes.hub import HUB_DATASET, hub_assets

FOLDER_VARIABLE = "RLGEN_LIBERO_ASSETS"
# Textures of an arena whose files the benchmark replaces by those of the task's style.
RESTYLED = ("texplane", "tex-wall")


@dataclass(frozen=True)
class AssetSource:
    """An asset tree that was found.

    Attributes:
      kind: how it was found; a tree of placeholder assets is `placeholder` however it was found.
      path: its root, with `scenes/`, `textures/` and the object families.
      label: description for reports.
    """

    kind: Literal["folder", "installed", "hub", "placeholder"]
    path: Path
    label: str


LABELS = {
    "folder": "LIBERO assets from a given folder",
    "installed": "LIBERO assets of an installed LIBERO",
    "hub": f"LIBERO assets from the hub ({HUB_DATASET})",
    "placeholder": "built-in placeholder assets (plain geometry)",
}


def find_assets(
    folder: Path | None = None,
    *,
    placeholders: bool = False,
    cache: Path,
    download: bool = True,
    needed: Iterable[str] | None = None,
    log: Callable[[str], None] | None = None,
) -> AssetSource:
    """Finds an asset tree: the first in the module's order that has all that is needed.

    Args:
      folder: given by the user; else the environment variable `RLGEN_LIBERO_ASSETS` is read.
      placeholders: True to use the placeholder assets without searching.
      cache: folder in which the placeholder assets are written.
      download: True to allow a download from the hub; `RLGEN_OFFLINE` and `HF_HUB_OFFLINE` forbid it all the same.
      needed: files that the tree must have, as in `check_assets`.
      log: called with one line each for a download and for its failure.

    Raises:
      UserError: the given folder cannot be used, or the placeholder assets cannot be written.
    """
    log = log or (lambda line: None)
    required = required_files() if needed is None else tuple(needed)
    given = folder or os.environ.get(FOLDER_VARIABLE)
    if given and not placeholders:
        path = expanded(given).absolute()
        check_assets(path, required)
        return _source("folder", path)
    if not placeholders:
        for path in _installed():
            if _usable(path, required):
                return _source("installed", path)
        path = hub_assets(lambda tree: _usable(tree, required), download=download, log=log)
        if path is not None:
            return _source("hub", path)
    path = Path(cache).absolute() / f"placeholders-{content_key()}"
    with cache_errors(path):
        write_placeholders(path)
    return _source("placeholder", path)


def _source(kind: Literal["folder", "installed", "hub", "placeholder"], path: Path) -> AssetSource:
    kind = "placeholder" if (path / MARKER).exists() else kind
    return AssetSource(kind, path, LABELS[kind])


def required_files() -> tuple[str, ...]:
    """Returns the files that the benchmark's 130 tasks need (arenas, textures, objects), relative to the tree."""
    return tuple(sorted(name for name in placeholder_files() if name != MARKER))


def check_assets(path: Path, needed: Iterable[str] | None = None) -> None:
    """Checks that the needed files, and all files they refer to, exist and can be read.

    Args:
      path: root of an asset tree.
      needed: files relative to it, `required_files()` if None. MJCF among them is parsed, and every mesh and
        texture it names must exist and not be empty; MuJoCo reads their contents later.

    Raises:
      UserError: names the folder, or the first bad file.
    """
    if not path.is_dir():
        state = "is not a folder" if path.exists() else "does not exist"
        raise UserError(
            f"assets folder {path} {state}; give the folder that has LIBERO's `scenes` and "
            "`stable_hope_objects`, or no folder to search for one"
        )
    for name in required_files() if needed is None else needed:
        _check_file(path, path / name)
        if name.endswith(".xml"):
            for reference in _references(path, path / name):
                _check_file(path, reference)


def _check_file(root: Path, file: Path) -> None:
    shown = os.path.relpath(file, root)
    try:
        size = file.stat().st_size
    except OSError:
        raise UserError(
            f"assets folder {root} has no {shown}; a full copy of LIBERO's assets is needed, "
            "or no folder to search for one"
        ) from None
    if not file.is_file() or not size:
        raise UserError(f"assets file {file} is empty or not a file; fetch it again")


def _references(root: Path, file: Path) -> Iterator[Path]:
    """Yields the files that an MJCF names, resolved against its own folder as the benchmark does."""
    try:
        document = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, UnicodeError, OSError) as error:
        raise UserError(f"assets file {file} cannot be read as MJCF ({error}); fetch it again") from error
    if document.tag != "mujoco":
        raise UserError(f"assets file {file} is not MJCF: its root is <{document.tag}>; fetch it again")
    for element in document.iterfind("./asset/*[@file]"):
        if element.get("name") not in RESTYLED:
            yield file.parent / element.get("file", "")


def _usable(path: Path, needed: Iterable[str]) -> bool:
    """Returns True if a tree that was found is complete and not one of placeholder assets."""
    try:
        check_assets(path, needed)
    except UserError:
        return False
    return not (path / MARKER).exists()


def _installed() -> Iterator[Path]:
    """Yields the trees of an installed LIBERO: that of its configuration, then that inside the package."""
    folder = os.environ.get("LIBERO_CONFIG_PATH") or "~/.libero"
    configured = _configured_assets(expanded(folder) / "config.yaml")
    if configured is not None:
        yield configured
    spec = importlib.util.find_spec("libero")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(location) / "libero" / "assets"


def _configured_assets(file: Path) -> Path | None:
    import yaml

    try:
        settings = yaml.safe_load(file.read_text())
    except (OSError, UnicodeError, yaml.YAMLError):
        return None
    folder = settings.get("assets") if isinstance(settings, dict) else None
    return expanded(folder).absolute() if isinstance(folder, str) and folder else None


def fingerprint(path: Path) -> str:
    """Returns a key of the tree's contents, made from names and sizes of all files and the bytes of the MJCF.

    It is the same on every machine, and quick: meshes and textures are not read.
    """
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    digest = hashlib.sha256()
    for name, file in sorted(files.items()):
        if name.startswith("."):  # files of git and of the hub beside a download
            continue
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        if name.endswith(".xml"):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
