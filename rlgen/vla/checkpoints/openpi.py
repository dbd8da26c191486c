"""openpi's checkpoint directories: `params`, an Orbax tree below a root key of the same name.

Checkpoints of openpi's training have one more path component, `value`, behind every name; released ones may not.
Both are read, plain names are written. Names and shapes are checked by the metadata, before any array is read.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from rlgen.core.errors import UserError
from rlgen.core.files import expanded
from rlgen.vla.model.parameters import compare, flat_names, nested, tree_shapes

ROOT, VALUE, FOLDER = "params", "value", "params"
Optional = Callable[[str], bool]


def params_folder(path: Path) -> Path:
    """Finds the Orbax folder of a checkpoint: `path` itself, or `params` below it.

    Raises:
      UserError: there is none.
    """
    path = expanded(path).absolute()
    for folder in (path / FOLDER, path):
        if (folder / "_METADATA").is_file():
            return folder
    raise UserError(f"{path}: no checkpoint (no _METADATA in it or in its {FOLDER}); pass an openpi checkpoint folder")


def read_params(
    path: Path,
    expected: PyTree,
    *,
    optional: Optional = lambda name: False,
    dtype: Any = None,
) -> PyTree:
    """Reads parameters as NumPy arrays, strictly: names and shapes must be those of `expected`.

    Args:
      path: a checkpoint folder, or its `params`.
      expected: nested dict with leaves that have a shape, such as `jax.eval_shape` gives.
      optional: names that may be missing, as adapters are in a base checkpoint; they are left out.
      dtype: of the result; by default as stored.

    Raises:
      UserError: no checkpoint, another tree, or data that cannot be read; names the leaves.
    """
    stored = _checked(path, expected, optional)
    folder = stored.folder
    arguments = {name: ocp.RestoreArgs(restore_type=np.ndarray, dtype=dtype) for name in stored.leaves}
    try:
        flat = stored.restore(arguments)
    except Exception as error:
        raise _named(stored, arguments) or _damaged(folder, None, error) from error
    for name, leaf in flat.items():
        check_leaf(leaf, f"{folder}: {name}")
    return nested(flat)


def check_params(path: Path, expected: PyTree, *, optional: Optional = lambda name: False) -> None:
    """Checks what `read_params` checks before it reads any array.

    Args:
      path: as there; likewise the next two.
      expected: names and shapes.
      optional: names that may be missing.
    """
    _checked(path, expected, optional)


def check_type(dtype: Any, where: str) -> None:
    """Raises `UserError` for integers, which a quantized checkpoint has, and whatever else is no float."""
    if not jnp.issubdtype(dtype, jnp.floating):
        raise UserError(f"{where} is of {dtype}, expected floats; fetch the checkpoint in float32 or bfloat16")


def check_leaf(leaf: np.ndarray, where: str) -> None:
    """Raises `UserError` where a parameter is no finite floats; the message begins with `where`."""
    check_type(leaf.dtype, where)
    # The extremes, as they need no array of the parameter's size; NaN is the extreme of whatever holds it.
    with np.errstate(invalid="ignore"):
        is_finite = leaf.size == 0 or (np.isfinite(leaf.min()) and np.isfinite(leaf.max()))
    if not is_finite:
        raise UserError(f"{where} holds numbers that are not finite; fetch the checkpoint again, or use an earlier one")


def write_params(folder: Path, params: PyTree) -> None:
    """Writes `folder/params`; it appears whole or not at all. Every process of a run calls it.

    Raises:
      UserError: something is there already, or the disk refuses.
    """
    target = Path(folder).absolute() / FOLDER
    if target.exists():
        raise UserError(f"{target} is there already; choose another folder")
    try:
        ocp.PyTreeCheckpointer().save(target, {ROOT: params})
    except OSError as error:
        raise UserError(
            f"{target} cannot be written ({error.strerror}); free space or choose another folder"
        ) from error


class _Stored:
    """A checkpoint's leaves by our names, and how to read them."""

    def __init__(self, folder: Path, tree: PyTree):
        self.folder, self._tree = folder, tree
        flat = flat_names(tree)
        self._paths = {_plain(path): path for path in flat}
        self.leaves = {name: flat[path] for name, path in self._paths.items()}

    def restore(self, arguments: dict[str, ocp.RestoreArgs]) -> dict[str, Any]:
        """Reads the leaves that `arguments` name."""
        item = nested({self._paths[name]: self.leaves[name] for name in arguments})
        wanted = nested({self._paths[name]: value for name, value in arguments.items()})
        read = ocp.PyTreeCheckpointer().restore(
            self.folder, ocp.args.PyTreeRestore(item=item, restore_args=wanted, partial_restore=True)
        )
        return {_plain(path): leaf for path, leaf in flat_names(read).items()}


def _plain(path: str) -> str:
    return path.removeprefix(f"{ROOT}/").removesuffix(f"/{VALUE}")


def _checked(path: Path, expected: PyTree, optional: Optional) -> _Stored:
    """Opens a checkpoint; `UserError` where its names, shapes or types are not those of `expected`."""
    folder = params_folder(path)
    stored = _metadata(folder)
    shapes = {name: leaf.shape for name, leaf in stored.leaves.items()}
    wanted = tree_shapes(expected)
    wanted = {name: shape for name, shape in wanted.items() if name in shapes or not optional(name)}
    difference = compare(shapes, wanted)
    if difference:
        raise UserError(f"{folder} is not a checkpoint of this model: {difference}")
    for name, leaf in stored.leaves.items():
        check_type(leaf.dtype, f"{folder}: {name}")
    return stored


def _metadata(folder: Path) -> _Stored:
    try:
        tree = ocp.PyTreeCheckpointer().metadata(folder).item_metadata.tree
        flat = flat_names(tree)
        foreign = [name for name, leaf in flat.items() if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype")]
        outside = [name for name in flat if not name.startswith(f"{ROOT}/")]
    except Exception as error:
        raise _damaged(folder, None, error) from error
    if foreign or outside:
        raise UserError(f"{folder}: {(foreign + outside)[0]} is no array below {ROOT!r}; not an openpi checkpoint")
    return _Stored(folder, tree)


def _named(stored: _Stored, arguments: dict[str, ocp.RestoreArgs]) -> UserError | None:
    """Returns the error of the first leaf that cannot be read by itself."""
    for name, argument in arguments.items():
        try:
            stored.restore({name: argument})
        except Exception as error:
            return _damaged(stored.folder, name, error)
    return None


def _damaged(folder: Path, name: str | None, error: Exception) -> UserError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
    what = "it" if name is None else name
    return UserError(f"{folder}: {what} cannot be read ({reason}); fetch the checkpoint again")
