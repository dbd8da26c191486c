"""Checks of a training's data before it begins: `check_inputs`, which a dry run and a training both call.

Most fine-tunings that reach nothing were trained on data that do not fit: joint positions learned as movements of the
hand, millimeters as meters, the statistics of another dataset, one camera twice. The loss falls all the same.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rlgen.core.errors import UserError
from rlgen.data.frames import CAMERAS
from rlgen.data.loader import Mixture, Subset
from rlgen.vla.data.metadata import check_declarations, read_declarations
from rlgen.vla.data.normalize import NormStats, Statistics, mixture_statistics
from rlgen.vla.data.spec import InputSpec, check_widths
from rlgen.vla.data.training_statistics import FLOOR

LARGEST_NUMBER = 10.0
"""Of a robot's states and actions in meters, radians, and parts of the largest movement."""
LOOKED_AT = 16
"""Frames of a dataset whose images are looked at."""
FAR, WIDER = 3.0, 5.0
"""Statistics are of other data where means are `FAR` standard deviations apart, or one of these is `WIDER` times the
other, in a third of all numbers."""
STANDS_STILL = 1e-4
OTHER_ROBOT = (
    "the data are of another robot than LIBERO's, with {}: rules for LIBERO's gripper and ranges are left out, and "
    "`rlgen eval` refuses the model"
)
FOLLOWS, SLACK = 0.95, 0.2
"""Relative actions that have this correlation with the position, and are this close to it (m), are positions."""


def check_inputs(
    spec: InputSpec, folders: Sequence[str | Path], mixture: Mixture, *, mask_cameras: bool = False
) -> list[str]:
    """Checks the datasets of a training against its transforms.

    Args:
      spec: of the model.
      folders: of the datasets, for their metadata and for messages.
      mixture: what is trained on, a subset for each of them.
      mask_cameras: whether a camera that a dataset lacks may be black and masked.

    Returns:
      Notes for the user.

    Raises:
      UserError: metadata that say something else, a camera that is missing or shown twice, widths that are not the
        model's robot's, or numbers of another unit or meaning.
    """
    notes = [] if spec.robot.is_libero else [OTHER_ROBOT.format(spec.robot)]
    for folder, subset in zip(folders, mixture.subsets, strict=True):
        table = subset.frames.table
        check_widths(table.state.shape[-1], table.action.shape[-1], str(folder), spec.robot)
        check_declarations(spec, read_declarations(Path(folder)), str(folder))
        notes += _check_cameras(subset, str(folder), mask_cameras)
        notes += _check_ranges(spec, subset, str(folder))
        _check_meaning(spec, subset, str(folder))
    return notes


def check_statistics(stats: NormStats, mixture: Mixture, horizon: int, *, delta: bool, where: str, advice: str) -> None:
    """Checks that statistics which were not computed from the data could be those of the data.

    Args:
      stats: given ones, or those of a run that goes on.
      mixture: the data.
      horizon: actions in a chunk.
      delta: whether the model learns actions minus the state.
      where: whose they are, for messages.
      advice: end of the message.

    Raises:
      UserError: a third of the numbers or more are elsewhere, or vary far more or less.
    """
    own, total, off = mixture_statistics(mixture, horizon, delta=delta), 0, []
    for name in ("state", "actions"):
        theirs, ours = getattr(stats, name), getattr(own, name)
        total += len(theirs.mean)
        off += [(name, i, theirs, ours) for i in np.flatnonzero(_differ(theirs, ours))]
    if 3 * len(off) < total:
        return
    name, i, theirs, ours = off[0]
    raise UserError(
        f"{where}: statistics of other data: {name}[{i}] has mean {theirs.mean[i]:.3g} and standard deviation "
        f"{theirs.std[i]:.3g} there, {ours.mean[i]:.3g} and {ours.std[i]:.3g} in the data, and {len(off)} of {total} "
        f"numbers are as far apart; {advice}"
    )


def _differ(theirs: Statistics, ours: Statistics) -> np.ndarray:
    widths = np.maximum([theirs.std, ours.std], FLOOR)
    apart = np.abs(np.subtract(theirs.mean, ours.mean, dtype=np.float64)) > FAR * widths.max(0)
    return apart | (widths.max(0) > WIDER * widths.min(0))


def _check_cameras(subset: Subset, where: str, mask_cameras: bool) -> list[str]:
    """Refuses cameras that are missing, or the same; returns notes about those that show nothing."""
    missing = [name for name in CAMERAS if name not in subset.frames.cameras]
    if missing and not mask_cameras:
        raise UserError(
            f"{where}: no {', '.join(missing)}, which the robot has when the model acts; take data with it, or pass "
            "--mask-cameras to train without"
        )
    notes = [f"{where}: no {name}; the model is trained without, and will have it when it acts" for name in missing]
    chosen = subset.index[np.linspace(0, len(subset) - 1, min(LOOKED_AT, len(subset))).astype(int)]
    images = subset.frames.images(chosen)
    flat = [name for name, each in images.items() if each.min() == each.max()]
    notes += [
        f"{where}: {name} is {images[name].min()} everywhere in {len(chosen)} images; it shows nothing" for name in flat
    ]
    if len(images) == len(CAMERAS) and not flat and np.array_equal(*images.values()):
        raise UserError(f"{where}: {' and '.join(images)} are the same images; give each camera its own")
    return notes


def _check_ranges(spec: InputSpec, subset: Subset, where: str) -> list[str]:
    """Refuses large numbers of LIBERO's robot; returns notes about those of others, whose units nothing here reads."""
    table, notes = subset.frames.table, []
    meant = "parts of the largest movement" if spec.actions == "relative" else "meters and radians"
    for name, rows, unit in (("state", table.state, "meters and radians"), ("actions", table.action, meant)):
        low, high = rows.min(0), rows.max(0)
        for i in np.flatnonzero(~(np.maximum(np.abs(low), np.abs(high)) <= LARGEST_NUMBER)):
            found = f"{where}: {name}[{i}] goes from {low[i]:g} to {high[i]:g}"
            if spec.robot.is_libero:
                raise UserError(
                    f"{found}, expected {unit}, none above {LARGEST_NUMBER:g}; convert millimeters, degrees or ticks "
                    "first"
                )
            notes.append(f"{found}; the model learns this unit, and is to be served in it")
    return notes


def _check_meaning(spec: InputSpec, subset: Subset, where: str) -> None:
    """Refuses absolute positions that are declared as relative movements."""
    if spec.actions != "relative":
        return
    table = subset.frames.table
    count = min(3, table.action.shape[-1], table.state.shape[-1])
    actions, state = table.action[subset.index, :count], table.state[subset.index, :count]
    if np.quantile(np.abs(actions - state), 0.95) < SLACK and _correlation(actions, state) > FOLLOWS:
        raise UserError(
            f"{where}: actions[0] to actions[{count - 1}] are the position itself (within "
            f"{np.abs(actions - state).max():.2g} of state[0] to state[{count - 1}]), not relative movements; "
            "pass --actions absolute if they are meant so"
        )


def _correlation(a: Float[np.ndarray, "F 3"], b: Float[np.ndarray, "F 3"]) -> float:
    """Returns the smallest correlation of the pairs of columns that move; 0 where only one of a pair does, or none."""
    a, b = (np.asarray(x, np.float64) - x.mean(0, dtype=np.float64) for x in (a, b))
    squares = np.stack([np.square(x).mean(0) for x in (a, b)])
    moves = squares > STANDS_STILL**2
    both, either = moves.all(0), moves.any(0)
    if not either.any() or (either & ~both).any():
        return 0.0
    return float(((a * b).mean(0)[both] / np.sqrt(squares.prod(0)[both])).min())
