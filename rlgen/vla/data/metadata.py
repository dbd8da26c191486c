"""The meaning of states and actions by a dataset's own files, and whether a model may be trained on that.

meta/info.json      of LeRobot: a name for each number, such as `x` or `shoulder_pan.pos`
*.hdf5              of robosuite: the controller that executed the actions, in `env_args`; of ACT: its layout
dataset_card.json   ours: `action_semantics`
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlgen.core.errors import UserError
from rlgen.core.ownership import read_record
from rlgen.data.card import CARD_JSON
from rlgen.data.formats.hdf5.foreign import SUFFIXES
from rlgen.data.formats.hdf5.robosuite import read_environment
from rlgen.data.formats.hdf5.schema import has_act_layout
from rlgen.vla.data.spec import InputSpec, Semantics

Kind = Literal["joints", "pose"]
INFO = "meta/info.json"
VECTORS = {"state": "observation.state", "actions": "action"}
"""Our names of the vectors, and LeRobot's."""
_JOINT = re.compile(
    r"(^|[^a-z])(joint|motor_\d|qpos|shoulder|elbow|waist|forearm|wrist_(angle|rotate|flex|roll))|^[jq]\d"
)
_POSE = re.compile(
    r"(^|[^a-z])([xyz]|r[xyz]|roll|pitch|yaw|axis_?angle|eef|ee|tcp)\d*($|[^a-z])|^d(x|y|z|roll|pitch|yaw)"
)
_RELATIVE, _ABSOLUTE = (
    re.compile(r"delta|(^|_)rel(_|$)|relative|^d(x|y|z|r)"),
    re.compile(r"(^|_)abs(_|$)|absolute|target|goal"),
)
_HAND = re.compile(r"grip|finger|hand|claw")


@dataclass(frozen=True)
class Declaration:
    """The meaning of a vector by a file.

    Attributes:
      vector: `state` or `actions`.
      words: how the file says it, with its path.
      kind: what the numbers of the arm are; None where that is not said.
      semantics: of actions: relative or absolute; None where that is not said.
    """

    vector: Literal["state", "actions"]
    words: str
    kind: Kind | None = None
    semantics: Semantics | None = None


def read_declarations(folder: Path) -> list[Declaration]:
    """Returns what the files of a dataset say of its states and actions; what cannot be understood says nothing."""
    return [*_of_card(folder), *_of_names(folder), *_of_hdf5(folder)]


def check_declarations(spec: InputSpec, declarations: Sequence[Declaration], where: str) -> None:
    """Checks that the actions of a dataset are what a model learns them as.

    Args:
      spec: of the model.
      declarations: what the dataset's files say.
      where: the dataset, for messages.

    Raises:
      UserError: they contradict the model's transforms.
    """
    for said in (each for each in declarations if each.vector == "actions"):
        if said.kind == "joints" and spec.actions == "relative":
            raise UserError(
                f"{where}: its actions are joint positions by {said.words}, the model's are relative movements of the "
                "end effector; convert the data, or pass --actions absolute for a robot that is not LIBERO's"
            )
        if said.semantics not in (None, spec.actions):
            raise UserError(
                f"{where}: its actions are {said.semantics} by {said.words}, the model's are {spec.actions}; pass "
                f"--actions {said.semantics}, or correct that file"
            )
    kinds = {said.vector: said for said in declarations if said.kind is not None}
    if spec.delta and len({said.kind for said in kinds.values()}) > 1:
        words = " and ".join(f"{vector} are {said.kind} by {said.words}" for vector, said in sorted(kinds.items()))
        raise UserError(f"{where}: {words}; one cannot be subtracted from the other, train without --delta")


def kind_of_names(names: Sequence[str]) -> Kind | None:
    """Returns what most of the names of a vector's numbers, those of a hand left out, are names of."""
    return "joints" if _most(names, _JOINT) else "pose" if _most(names, _POSE) else None


def semantics_of_names(names: Sequence[str]) -> Semantics | None:
    """Returns whether most of the names of an action's numbers say that they are relative, or absolute."""
    return "relative" if _most(names, _RELATIVE) else "absolute" if _most(names, _ABSOLUTE) else None


def _most(names: Sequence[str], pattern: re.Pattern[str]) -> bool:
    """Returns whether a pattern is found in most of the names that are not a hand's."""
    arm = [name.lower() for name in names if not _HAND.search(name.lower())]
    return 2 * sum(bool(pattern.search(name)) for name in arm) > len(arm)


def _of_card(folder: Path) -> Iterator[Declaration]:
    card = read_record(folder / CARD_JSON)
    said = card.get("action_semantics") if isinstance(card, dict) else None
    if said in ("relative", "absolute"):
        yield Declaration("actions", str(folder / CARD_JSON), semantics=said)
    elif isinstance(said, str) and "joint" in said.lower():
        yield Declaration("actions", f"{folder / CARD_JSON} ({said[:40]})", "joints")


def _of_names(folder: Path) -> Iterator[Declaration]:
    info = read_record(folder / INFO)
    features = info.get("features") if isinstance(info, dict) else None
    for vector, column in VECTORS.items() if isinstance(features, dict) else ():
        feature = features.get(column)
        names = list(_texts(feature.get("names"))) if isinstance(feature, dict) else []
        shown = ", ".join(name[:20] for name in names[:3])
        words = f"{folder / INFO} ({shown}{', ...' if len(names) > 3 else ''})"
        semantics = semantics_of_names(names) if vector == "actions" else None
        if (kind := kind_of_names(names)) or semantics:
            yield Declaration(vector, words, kind, semantics)  # type: ignore[arg-type]


def _texts(value: Any) -> Iterator[str]:
    """Yields the names of LeRobot's features: a list, or lists by the name of a group."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _of_hdf5(folder: Path) -> Iterator[Declaration]:
    """Yields what the actions of the first HDF5 file are, by its controllers or its layout."""
    found = (
        [folder] if folder.is_file() else (path for suffix in SUFFIXES for path in sorted(folder.rglob(f"*{suffix}")))
    )
    path = next(iter(found), None)
    if path is None:
        return
    import h5py

    try:
        with h5py.File(path) as file:
            is_act = has_act_layout(file)
            controllers = () if is_act else read_environment(file["data"].attrs).controllers
    except (OSError, LookupError, TypeError, ValueError, RuntimeError, AttributeError):
        return
    if is_act:
        yield Declaration("actions", f"{path} (ACT's layout)", "joints")
    for controller in controllers[:1]:
        words, relative = f"{path} (controller {controller.kind[:40]})", controller.relative
        semantics = None if relative is None else "relative" if relative else "absolute"
        yield Declaration("actions", words, "joints" if controller.kind.startswith("JOINT") else "pose", semantics)
