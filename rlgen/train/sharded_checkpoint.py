"""Checkpoints of states whose arrays lie on several devices or hosts; each process writes and reads its own pieces.

They are independent of how the state was cut: what eight devices wrote one may read.
"""

from pathlib import Path
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp

from rlgen.errors import UserError

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
