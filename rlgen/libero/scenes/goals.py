"""Goals: conjunctions of atoms over physics states, as arrays that the compiled control step reads."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Bool, Float, Int

from rlgen.core.errors import UserError

# Kinds of atoms: an object in a region's box, on top of a region, on another object; a condition on joints.
CONTAIN, UNDER, STACKED, JOINT = range(4)
_KINDS = {"contain": CONTAIN, "under": UNDER, "stacked": STACKED, "joint": JOINT}


@dataclass(frozen=True)
class Contact:
    """Two groups of geoms; one geom of the first must touch one of the second."""

    first: Bool[np.ndarray, " geoms"]
    second: Bool[np.ndarray, " geoms"]


@dataclass(frozen=True)
class Goal:
    """A conjunction of G atoms.

    Attributes:
      atoms: the goal as the BDDL file says it.
      kinds: `CONTAIN`, `UNDER`, `STACKED` or `JOINT`.
      bodies: the object's body; for joints the body that the first of them moves.
      targets: site of the region, or body of the object below (`STACKED`); for joints the same as `bodies`.
      sizes: half sizes of the region, metres.
      joints: addresses in qpos of up to J joints, padded with -1.
      thresholds: joint position at which the joints' condition changes.
      above: True where the condition holds above the threshold, False where below.
      inclusive: True where it holds at the threshold itself.
      every: True where all joints must meet the condition, False where one is enough.
      contacts: geoms that must touch, None where the benchmark asks for none.
    """

    atoms: tuple[tuple[str, ...], ...]
    kinds: Int[np.ndarray, " G"]
    bodies: Int[np.ndarray, " G"]
    targets: Int[np.ndarray, " G"]
    sizes: Float[np.ndarray, "G 3"]
    joints: Int[np.ndarray, "G J"]
    thresholds: Float[np.ndarray, " G"]
    above: Bool[np.ndarray, " G"]
    inclusive: Bool[np.ndarray, " G"]
    every: Bool[np.ndarray, " G"]
    contacts: tuple[Contact | None, ...]

    def __getitem__(self, atom: int) -> "Goal":
        """Returns the goal of a single atom."""
        names = [field.name for field in fields(self)]
        return Goal(**{name: getattr(self, name)[atom : atom + 1] for name in names})

    @property
    def needs_contact(self) -> bool:
        """Returns True if poses and joints alone do not decide the goal."""
        return any(contact is not None for contact in self.contacts)


def compile_goal(model: mujoco.MjModel, atoms: Sequence[dict[str, Any]]) -> Goal:
    """Compiles the atoms of a scene bundle to indices into the model.

    Args:
      model: the scene's physics.
      atoms: as `rlgen.libero.scenes.build_goal` writes them: `words`, `kind`, and names in the model.

    Raises:
      UserError: an atom of a kind that this version does not know.
    """
    unknown = [atom["kind"] for atom in atoms if atom["kind"] not in _KINDS]
    if unknown:
        raise UserError(f"unknown kind of goal {unknown[0]!r}, expected one of {', '.join(_KINDS)}; build it again")
    joints = [[model.joint(name) for name in atom.get("joints", ())] for atom in atoms]
    width = max([1, *(len(row) for row in joints)])
    addresses = np.full((len(atoms), width), -1, np.int32)
    for row, found in zip(addresses, joints, strict=True):
        row[: len(found)] = [joint.qposadr[0] for joint in found]
    moved = [int(row[0].bodyid[0]) if row else -1 for row in joints]
    return Goal(
        atoms=tuple(tuple(atom["words"]) for atom in atoms),
        kinds=np.array([_KINDS[atom["kind"]] for atom in atoms], np.int32),
        bodies=np.array([_body(model, atom, body) for atom, body in zip(atoms, moved, strict=True)], np.int32),
        targets=np.array([_target(model, atom, body) for atom, body in zip(atoms, moved, strict=True)], np.int32),
        sizes=np.array([atom.get("size", (0.0, 0.0, 0.0)) for atom in atoms], np.float64).reshape(-1, 3),
        joints=addresses,
        thresholds=np.array([atom.get("threshold", 0.0) for atom in atoms], np.float64),
        above=np.array([atom.get("above", False) for atom in atoms], bool),
        inclusive=np.array([atom.get("inclusive", False) for atom in atoms], bool),
        every=np.array([atom.get("every", False) for atom in atoms], bool),
        contacts=tuple(_contact(model, atom.get("touching")) for atom in atoms),
    )


def _body(model: mujoco.MjModel, atom: dict[str, Any], moved: int) -> int:
    return model.body(atom["body"]).id if "body" in atom else moved


def _target(model: mujoco.MjModel, atom: dict[str, Any], moved: int) -> int:
    if "site" in atom:
        return model.site(atom["site"]).id
    return model.body(atom["below"]).id if "below" in atom else moved


def _contact(model: mujoco.MjModel, names: Sequence[Sequence[str]] | None) -> Contact | None:
    if names is None:
        return None
    groups = np.zeros((2, model.ngeom), bool)
    for group, members in zip(groups, names, strict=True):
        group[[model.geom(name).id for name in members]] = True
    return Contact(*groups)


def contacts_hold(goal: Goal, data: mujoco.MjData) -> bool:
    """Returns True if all contacts that a goal asks for exist, by MuJoCo's last collision pass."""
    pairs = np.asarray(data.contact.geom).reshape(-1, 2)
    one, other = pairs[:, 0], pairs[:, 1]
    return all(
        bool(np.any((c.first[one] & c.second[other]) | (c.first[other] & c.second[one])))
        for c in goal.contacts
        if c is not None
    )
