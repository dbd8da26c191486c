"""Goals and reset conditions of the benchmark's environment, resolved to names of bodies, sites, joints and geoms.

Part of the builder (`rlgen.libero.scenes.build`): reads objects of libero and robosuite but imports neither.
"""

from collections.abc import Callable, Sequence
from typing import Any

from rlgen.core.errors import UserError

_EPSILON = 1e-9  # distance from a threshold at which a joint's condition is tried


def goal_atoms(env: Any) -> list[dict[str, Any]]:
    """Returns the goal's atoms, each as `resolve_atom` describes it."""
    return [resolve_atom(env, atom) for atom in env.env.parsed_problem["goal_state"]]


def reset_condition_atoms(env: Any) -> list[dict[str, Any]]:
    """Returns the atoms of the reset conditions: what the task file says of the start.

    Positions of fixtures are left out, since the scene bundle fixes these.
    """
    return [
        resolve_atom(env, atom)
        for atom in env.env.parsed_problem["initial_state"]
        # Atoms of two words are about the drawers and doors of fixtures.
        if atom[1] not in env.env.fixtures_dict or len(atom) == 2
    ]


def resolve_atom(env: Any, atom: Sequence[str]) -> dict[str, Any]:
    """Resolves an atom to what `rlgen.libero.scenes.goals.compile_goal` reads.

    Args:
      env: the benchmark's `ControlEnv`.
      atom: as in BDDL, e.g. `["on", "plate_1", "main_table_stove_front_region"]`.

    Raises:
      UserError: the atom is of a kind that none of the benchmark's tasks has.
    """
    predicate = atom[0].lower()
    if len(atom) == 2 and predicate in ("open", "close", "turnon", "turnoff"):
        return {"words": list(atom), **_joint_atom(env.env, predicate, atom[1])}
    if len(atom) == 3 and predicate in ("in", "on"):
        return {"words": list(atom), **_position_atom(env.env, predicate, atom[1], atom[2])}
    raise UserError(f"goal {' '.join(atom)} cannot be checked; expected In, On, Open, Close, TurnOn or TurnOff")


def _position_atom(problem: Any, predicate: str, name: str, target: str) -> dict[str, Any]:
    """Resolves `In(object, site)`, `On(object, site)` or `On(object, object)`."""
    upper = problem.get_object(name)
    site = problem.object_sites_dict.get(target)
    if site is None:
        if predicate == "in":
            raise UserError(f"goal in {name} {target} cannot be checked: {target} is not a region")
        below = problem.get_object(target)
        touching = [list(upper.contact_geoms), list(below.contact_geoms)]
        return {"kind": "stacked", "body": upper.root_body, "below": below.root_body, "touching": touching}
    atom = {"body": upper.root_body, "site": target, "size": [float(x) for x in site.size]}
    if predicate == "in":
        return {"kind": "contain", **atom}
    # A region of the table belongs to no object, and the benchmark asks for no contact there.
    parent = problem.get_object(site.parent_name)
    touching = None if parent is None else [list(parent.contact_geoms), list(upper.contact_geoms)]
    return {"kind": "under", **atom, "touching": touching}


def _joint_atom(problem: Any, predicate: str, name: str) -> dict[str, Any]:
    """Resolves a condition on the joints of an object, or of the part of it that a site belongs to."""
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
    """Returns the threshold of a joint's condition and on which side it holds, found by trying both sides."""
    for value in ranges:
        below, at, above = holds(value - _EPSILON), holds(value), holds(value + _EPSILON)
        if below != above:
            return {"threshold": float(value), "above": bool(above), "inclusive": bool(at)}
    raise UserError(f"no bound of {list(ranges)} is a threshold of {holds}; check the version of hf-libero")
