"""Goal atoms of the benchmark's environment, resolved to names of bodies, sites, joints and geoms.

Part of the builder (`rlgen.libero.scenes.build`): it reads objects of libero and robosuite but imports neither.
"""

from collections.abc import Callable, Sequence
from typing import Any

from rlgen.core.errors import UserError

# Next to a threshold, on either side of it.
_NEAR = 1e-9


def goal_atoms(env: Any) -> list[dict[str, Any]]:
    """What the task wants, an entry an atom, as `resolve_atom` has it."""
    return [resolve_atom(env, words) for words in env.env.parsed_problem["goal_state"]]


def reset_condition_atoms(env: Any) -> list[dict[str, Any]]:
    """What the task file says of the start; not where fixtures stand, because a bundle has them where they stand."""
    return [
        resolve_atom(env, words)
        for words in env.env.parsed_problem["initial_state"]
        # Of fixtures, drawers and doors may say more.
        if words[1] not in env.env.fixtures_dict or len(words) == 2
    ]


def resolve_atom(env: Any, words: Sequence[str]) -> dict[str, Any]:
    """One atom of the goal as `rlgen.libero.scenes.goals.compile_goal` reads it.

    Args:
      env: the benchmark's `ControlEnv`.
      words: the atom as BDDL says it, e.g. `["on", "plate_1", "main_table_stove_front_region"]`.

    Raises:
      UserError: a kind of atom that none of the benchmark's tasks has.
    """
    predicate = words[0].lower()
    if len(words) == 2 and predicate in ("open", "close", "turnon", "turnoff"):
        return {"words": list(words), **_joint_atom(env.env, predicate, words[1])}
    if len(words) == 3 and predicate in ("in", "on"):
        return {"words": list(words), **_place_atom(env.env, predicate, words[1], words[2])}
    raise UserError(f"goal {' '.join(words)} cannot be checked; expected In, On, Open, Close, TurnOn or TurnOff")


def _place_atom(problem: Any, predicate: str, name: str, place: str) -> dict[str, Any]:
    """`In(object, site)`, `On(object, site)` or `On(object, object)`."""
    thing = problem.get_object(name)
    site = problem.object_sites_dict.get(place)
    if site is None:
        if predicate == "in":
            raise UserError(f"goal in {name} {place} cannot be checked: {place} is not a region")
        below = problem.get_object(place)
        touching = [list(thing.contact_geoms), list(below.contact_geoms)]
        return {"kind": "stacked", "body": thing.root_body, "below": below.root_body, "touching": touching}
    atom = {"body": thing.root_body, "site": place, "size": [float(x) for x in site.size]}
    if predicate == "in":
        return {"kind": "contain", **atom}
    # A region of the table belongs to no object, and the benchmark asks for no contact there.
    parent = problem.get_object(site.parent_name)
    touching = None if parent is None else [list(parent.contact_geoms), list(thing.contact_geoms)]
    return {"kind": "under", **atom, "touching": touching}


def _joint_atom(problem: Any, predicate: str, name: str) -> dict[str, Any]:
    """A condition on the joints of an object, or of the part of it that a site belongs to."""
    site = problem.object_sites_dict.get(name)
    owner = problem.get_object(site.parent_name if site is not None else name)
    check, ranges = {
        "open": ("is_open", "default_open_ranges"),
        "close": ("is_close", "default_close_ranges"),
        "turnon": ("turn_on", "default_turnon_ranges"),
        "turnoff": ("turn_off", "default_turnoff_ranges"),
    }[predicate]
    condition = _threshold(getattr(owner, check), owner.object_properties["articulation"][ranges])
    joints = list(site.joints if site is not None else owner.joints)
    # One open joint makes an object open; it is closed when all are.
    return {"kind": "joint", "joints": joints, "every": predicate in ("close", "turnoff"), **condition}


def _threshold(holds: Callable[[float], bool], ranges: Sequence[float]) -> dict[str, Any]:
    """Where a joint's condition changes, and on which side it holds, found by asking it."""
    for value in ranges:
        below, at, above = holds(value - _NEAR), holds(value), holds(value + _NEAR)
        if below != above:
            return {"threshold": float(value), "above": bool(above), "inclusive": bool(at)}
    raise UserError(f"no bound of {list(ranges)} changes what {holds} says")
