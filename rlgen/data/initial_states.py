"""The physics state that each episode of a dataset began at, so that its actions can be replayed by anybody."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rlgen.errors import UserError
from rlgen.files import read_json, write_json

INITIAL_STATES = "initial_states.json"
State = Float[np.ndarray, " D"]


def write_initial_states(folder: Path, states: Sequence[State | None]) -> None:
    """Writes time, qpos and qvel before settling, to the last bit; None where they are not known."""
    write_json(folder / INITIAL_STATES, [None if state is None else np.asarray(state).tolist() for state in states])


def read_initial_states(folder: Path, count: int) -> list[State | None]:
    """The initial state of each of `count` episodes; None where it is not known, as in other people's datasets.

    Raises:
      UserError: the file is damaged.
    """
    path = Path(folder) / INITIAL_STATES
    if not path.is_file():
        return [None] * count
    try:
        states = [None if state is None else np.array(state, np.float64) for state in read_json(path)]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not readable; export the dataset again") from error
    if len(states) != count:
        raise UserError(f"{path}: {len(states)} states for {count} episodes; export the dataset again")
    return states
