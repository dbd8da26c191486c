"""Goal atoms over physics state, as arrays that the compiled control step can read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float, Int

from rlgen.errors import UserError

# The benchmark lowers the floor of a containing region by this much, metres.
CONTAIN_SLACK = 0.01


@dataclass(frozen=True)
class Goal:
    """A conjunction of `In(object, region)` atoms.

    Attributes:
      atoms: the goal as the BDDL file says it.
      bodies: the object's body of each atom.
      sites: the region's site of each atom.
      sizes: half sizes of the region, metres.
    """

    atoms: tuple[tuple[str, ...], ...]
    bodies: Int[np.ndarray, " G"]
    sites: Int[np.ndarray, " G"]
    sizes: Float[np.ndarray, "G 3"]


def compile_goal(
    model: mujoco.MjModel,
    atoms: Sequence[Sequence[str]],
    bodies: dict[str, int],
    sites: dict[str, dict[str, Any]],
) -> Goal:
    """Turns goal atoms into indices.

    Args:
      atoms: e.g. `[["in", "butter_1", "basket_1_contain_region"]]`.
      bodies: body of each movable object.
      sites: `size` of each region's site.

    Raises:
      UserError: an atom that this version cannot check yet.
    """
    for atom in atoms:
        if atom[0].lower() != "in" or atom[1] not in bodies or atom[2] not in sites:
            raise UserError(f"goal {' '.join(atom)} cannot be checked yet; tasks of libero_object can")
    return Goal(
        atoms=tuple(tuple(atom) for atom in atoms),
        bodies=np.array([bodies[atom[1]] for atom in atoms], np.int32),
        sites=np.array([model.site(atom[2]).id for atom in atoms], np.int32),
        sizes=np.array([sites[atom[2]]["size"] for atom in atoms], np.float64).reshape(-1, 3),
    )


def goal_holds(goal: Goal, data: mujoco.MjData) -> bool:
    """Whether every atom holds: the object's origin lies in the region's box, turned with its site."""
    for body, site, size in zip(goal.bodies, goal.sites, goal.sizes, strict=True):
        reach = np.abs(data.site_xmat[site].reshape(3, 3) @ size)
        low, high = data.site_xpos[site] - reach, data.site_xpos[site] + reach
        low[2] -= CONTAIN_SLACK
        if not (np.all(data.xpos[body] > low) and np.all(data.xpos[body] < high)):
            return False
    return True
