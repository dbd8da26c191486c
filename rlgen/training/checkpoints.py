"""Checkpoints of training states, through Orbax: complete or not at all, the newest ones kept."""

import hashlib
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding

from rlgen.core.errors import UserError

Tree = TypeVar("Tree")
_DAMAGED = (
    "checkpoint {path} is damaged or of another model: {reason}; "
    "delete it to fall back on the one before, or repeat the training with --overwrite"
)


class Checkpoints:
    """A folder of checkpoints by step, each a pytree of arrays with JSON metadata.

    Arrays that are complete on this process are stored with a digest over every leaf, so that a damaged file is found
    when it is read and not when the training goes wrong. Where arrays are cut over devices or processes, each writes
    its shards and there is no digest; every process of such a training calls every method.

    Args:
      folder: made if it is not there.
      keep: newest checkpoints to keep.
    """

    def __init__(self, folder: Path, *, keep: int = 2):
        self.folder = Path(folder).absolute()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=True, cleanup_tmp_directories=True, enable_async_checkpointing=False
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def latest(self) -> int | None:
        """Returns the newest step, or None."""
        return self._manager.latest_step()

    def save(self, step: int, tree: Any, metadata: dict[str, Any]) -> None:
        """Saves a checkpoint.

        Args:
          step: greater than those before.
          tree: of NumPy's or JAX's arrays.
          metadata: JSON.

        Raises:
          UserError: the disk refuses; the checkpoints before stay.
        """
        arrays = jax.tree.map(_stored, tree)
        complete = all(map(_is_complete, jax.tree.leaves(arrays)))
        document = {"metadata": metadata, "digest": digest(arrays) if complete else None}
        items = ocp.args.Composite(state=ocp.args.StandardSave(arrays), meta=ocp.args.JsonSave(document))
        try:
            self._manager.save(step, args=items)
        except Exception as error:
            raise UserError(
                f"checkpoint {self.folder}/{step} cannot be written: {_reason(error)}; "
                "free space or choose another folder"
            ) from error

    def restore(self, target: Tree, step: int | None = None) -> tuple[Tree, dict[str, Any]]:
        """Reads a checkpoint.

        Args:
          target: a tree of the same structure, whose leaves have the shapes and types of the arrays. A leaf is read
            as a NumPy array; a `jax.ShapeDtypeStruct` with a sharding, as `rlgen.training.sharding.abstract_state`
            makes it, is read as a JAX array of that sharding, whatever the sharding when it was saved.
          step: of the checkpoint; the newest by default.

        Returns:
          The arrays, and the metadata.

        Raises:
          UserError: there is none, it is damaged, or it is of something else.
        """
        step = self.latest() if step is None else step
        if step is None:
            raise UserError(f"no checkpoint in {self.folder}; run the training that writes it first")
        expected = jax.tree.map(_expected, target)
        try:
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardRestore(expected), meta=ocp.args.JsonRestore()),
            )
        except Exception as error:
            # Orbax's own message for another tree is pages long, or about NumPy's truth values.
            kind = type(error).__name__
            reason = f"its tree cannot be read as the expected one ({kind})"
            raise UserError(_DAMAGED.format(path=f"{self.folder}/{step}", reason=reason)) from error
        state, (metadata, stored) = restored["state"], _metadata_and_digest(restored["meta"])
        problem = _difference(state, expected)
        is_known = stored is not None and all(map(_is_addressable, jax.tree.leaves(state)))
        if problem is None and is_known and digest(state) != stored:
            problem = "its arrays do not match their digest"
        if problem is not None:
            raise UserError(_DAMAGED.format(path=f"{self.folder}/{step}", reason=problem))
        return state, metadata


def digest(tree: Any) -> str:
    """Returns the SHA-256 over names, types, shapes and bytes of all leaves."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def _stored(leaf: Any) -> Any:
    """Returns an array of a mesh as it is, and any other as a NumPy array."""
    is_on_mesh = isinstance(leaf, jax.Array) and isinstance(leaf.sharding, NamedSharding)
    return leaf if is_on_mesh else np.asarray(leaf)


def _is_addressable(leaf: Any) -> bool:
    """Returns whether this process can read all of an array."""
    return not isinstance(leaf, jax.Array) or leaf.is_fully_addressable


def _is_complete(leaf: Any) -> bool:
    """Returns whether each device of an array holds all of it, and belongs to this process."""
    return not isinstance(leaf, jax.Array) or (leaf.is_fully_addressable and leaf.is_fully_replicated)


def _expected(leaf: Any) -> Any:
    """Returns a leaf to restore into: abstract where it has a sharding, else a NumPy array."""
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        return np.asarray(leaf)
    return np.zeros(leaf.shape, leaf.dtype) if leaf.sharding is None else leaf


def _metadata_and_digest(document: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Reads the stored JSON; version 0.1.0 stored the metadata of sharded checkpoints alone."""
    if set(document) == {"metadata", "digest"}:
        return document["metadata"], document["digest"]
    return document, None


def _difference(found: Any, expected: Any) -> str | None:
    """Returns the first leaf whose shape or type is not the expected one."""
    pairs = zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True)
    for (path, leaf), wanted in pairs:
        if np.shape(leaf) != wanted.shape or leaf.dtype != wanted.dtype:
            name = jax.tree_util.keystr(path)
            return f"{name} is {leaf.dtype}{list(np.shape(leaf))}, expected {wanted.dtype}{list(wanted.shape)}"
    return None


def _reason(error: Exception) -> str:
    """Returns the first line of an error; a full disk arrives as one of several types, recognized by its message."""
    text = str(error).strip() or type(error).__name__
    if any(sign in text for sign in ("No space left", "RESOURCE_EXHAUSTED", "Disk quota")):
        return "no space left on the disk"
    return text.splitlines()[0][:200]
