"""Checkpoints of training states, through Orbax: whole or not at all, the last two kept."""

import hashlib
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from rlgen.core.errors import UserError

Tree = TypeVar("Tree")
_DAMAGED = (
    "checkpoint {path} is damaged or of another model: {reason}; "
    "delete it to fall back on the one before, or repeat the stage with --overwrite"
)


class Checkpoints:
    """A folder of checkpoints by step.

    A checkpoint holds a pytree of arrays, JSON metadata, and a digest over every leaf, so that a damaged
    file is found when it is read and not when the training goes wrong.
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
        """The newest step, or None."""
        return self._manager.latest_step()

    def save(self, step: int, tree: Any, metadata: dict[str, Any]) -> None:
        """Saves `tree` (arrays of any kind) and `metadata` (JSON) as `step`.

        Raises:
          UserError: the disk refuses; the checkpoints before stay.
        """
        arrays = jax.tree.map(np.asarray, tree)
        document = {"metadata": metadata, "digest": digest(arrays)}
        items = ocp.args.Composite(state=ocp.args.StandardSave(arrays), meta=ocp.args.JsonSave(document))
        try:
            self._manager.save(step, args=items)
        except Exception as error:
            raise UserError(
                f"checkpoint {self.folder}/{step} cannot be written: {_reason(error)}; "
                "free space or choose another --run"
            ) from error

    def restore(self, target: Tree, step: int | None = None) -> tuple[Tree, dict[str, Any]]:
        """Reads a checkpoint into the structure, shapes and types of `target`.

        Raises:
          UserError: there is none, it is damaged, or it is of something else.
        """
        step = self.latest() if step is None else step
        if step is None:
            raise UserError(f"no checkpoint in {self.folder}; run the stage that writes it first")
        expected = jax.tree.map(np.asarray, target)
        try:
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardRestore(expected), meta=ocp.args.JsonRestore()),
            )
        except Exception as error:
            # Orbax's own words for another tree are pages long, or about NumPy's truth values.
            kind = type(error).__name__
            reason = f"its tree cannot be read as the expected one ({kind})"
            raise UserError(_DAMAGED.format(path=f"{self.folder}/{step}", reason=reason)) from error
        state, document = restored["state"], restored["meta"]
        problem = _difference(state, expected)
        if problem is None and digest(state) != document["digest"]:
            problem = "its arrays do not match their digest"
        if problem is not None:
            raise UserError(_DAMAGED.format(path=f"{self.folder}/{step}", reason=problem))
        return state, document["metadata"]


def _reason(error: Exception) -> str:
    """A full disk reaches us as one of several types, told by its words; else the first line of what went wrong."""
    text = str(error).strip() or type(error).__name__
    if any(words in text for words in ("No space left", "RESOURCE_EXHAUSTED", "Disk quota")):
        return "no space left on the disk"
    return text.splitlines()[0][:200]


def _difference(found: Any, expected: Any) -> str | None:
    """The first leaf whose shape or type is not the expected one."""
    pairs = zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True)
    for (path, leaf), wanted in pairs:
        if np.shape(leaf) != wanted.shape or np.asarray(leaf).dtype != wanted.dtype:
            name = jax.tree_util.keystr(path)
            there = f"{np.asarray(leaf).dtype}{list(np.shape(leaf))}"
            return f"{name} is {there}, expected {wanted.dtype}{list(wanted.shape)}"
    return None


def digest(tree: Any) -> str:
    """SHA-256 over names, types, shapes and bytes of all leaves."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


Tree = TypeVar("Tree")


class ShardedCheckpoints:
    """A folder of checkpoints by step, whole or not at all. Every process of a run calls every method."""

    def __init__(self, folder: Path, *, keep: int = 2):
        self.folder = Path(folder).absolute()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=True, cleanup_tmp_directories=True, enable_async_checkpointing=False
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def __enter__(self) -> "ShardedCheckpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def latest(self) -> int | None:
        """The newest step, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, metadata: dict[str, Any]) -> None:
        """Saves a tree of `jax.Array` and JSON metadata as `step`.

        Raises:
          UserError: the disk refuses; the checkpoints before stay.
        """
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(metadata))
        try:
            self._manager.save(step, args=items)
        except (OSError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise UserError(f"checkpoint {self.folder}/{step} cannot be written: {reason}; free space") from error

    def metadata(self) -> dict[str, Any]:
        """What was said of the newest checkpoint.

        Raises:
          UserError: there is none that can be read.
        """
        return self._read(meta=ocp.args.JsonRestore())["meta"]

    def restore(self, target: Tree) -> Tree:
        """Reads the newest checkpoint.

        Args:
          target: tree of `jax.ShapeDtypeStruct` with the shardings that the arrays are to have.

        Raises:
          UserError: there is none, it is damaged, or of another model.
        """
        state = self._read(state=ocp.args.StandardRestore(target))["state"]
        pairs = zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(target), strict=True)
        for (path, leaf), wanted in pairs:
            if leaf.shape != wanted.shape or leaf.dtype != wanted.dtype:
                name = jax.tree_util.keystr(path)
                found, expected = (f"{x.dtype}{list(x.shape)}" for x in (leaf, wanted))
                raise UserError(
                    f"checkpoint in {self.folder}: {name} is {found}, expected {expected}; use its own model"
                )
        return state

    def _read(self, **items: Any) -> Any:
        step = self.latest()
        if step is None:
            raise UserError(f"no checkpoint in {self.folder}; train first")
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:
            # Orbax raises many kinds, with pages of words, for a damaged tree and for another one.
            reason = (str(error).strip().splitlines() or [""])[0][:200]
            raise UserError(
                f"checkpoint {self.folder}/{step} is damaged or of another model ({type(error).__name__}: {reason}); "
                "delete it to fall back on the one before"
            ) from error


def abstract_state(state: Tree, shardings: Any) -> Tree:
    """Shapes, types and places of a state, to restore into; `state` as `jax.eval_shape` gives it."""
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings)
