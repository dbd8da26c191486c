"""robosuite's environments as HDF5 files describe them: robots, their controllers, and the numbers of an action.

robomimic stores the description as `env_args`, with robosuite's arguments in `env_kwargs`; robosuite's own recorder
stores these arguments as `env_info`. A controller is one for all robots, or a list of them; since robosuite 1.5 it has
parts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlgen.core.errors import UserError

_POSITION, _TURN, GRIPPER = ("x", "y", "z"), ("turn x", "turn y", "turn z"), "gripper"
# The numbers that a controller takes for an arm; those of joints depend on the robot.
_NUMBERS = {"OSC_POSE": _POSITION + _TURN, "IK_POSE": _POSITION + _TURN, "OSC_POSITION": _POSITION}
_ARMS = ("right", "left")


@dataclass(frozen=True)
class ArmController:
    """The controller of one arm.

    Attributes:
      kind: such as `OSC_POSE` or `JOINT_POSITION`.
      relative: whether actions are movements; None where that is not said.
      is_plain: whether an action has the arm's targets and the gripper's, and no stiffness besides.
    """

    kind: str
    relative: bool | None
    is_plain: bool


@dataclass(frozen=True)
class RobosuiteEnvironment:
    """The description of an environment in a file.

    Attributes:
      name: of its class, such as `Lift`; empty where that is not said.
      language: the instruction, likewise.
      robots: their models, such as `Panda`.
      controllers: of each arm; none where that is not said.
    """

    name: str = ""
    language: str = ""
    robots: tuple[str, ...] = ()
    controllers: tuple[ArmController, ...] = ()


def read_environment(attributes: Mapping[str, Any]) -> RobosuiteEnvironment:
    """Reads the description of an environment; what cannot be understood says nothing.

    Args:
      attributes: of the group `data` of a file.
    """
    described = _members(_parsed(attributes.get("env_args")))
    settings = _members(described.get("env_kwargs")) or _members(_parsed(attributes.get("env_info")))
    robots = settings.get("robots")
    names = [robots] if isinstance(robots, str) else robots if isinstance(robots, list) else []
    texts = (described.get("env_name"), described.get("env_lang"))
    name, language = (text if isinstance(text, str) else "" for text in texts)
    models = tuple(name for name in names if isinstance(name, str))
    return RobosuiteEnvironment(
        name, language, models, tuple(_controllers(settings.get("controller_configs"), len(models)))
    )


def action_names(environment: RobosuiteEnvironment, width: int, joints: Sequence[int], where: str) -> tuple[str, ...]:
    """Returns the names of the numbers of an action; none where the file does not say what they are.

    Args:
      environment: of the file.
      width: numbers in an action.
      joints: of each robot; none where they are not known.
      where: file and array, for messages.

    Raises:
      UserError: an action has fewer numbers than the robots' controllers take.
    """
    if not environment.robots:
        return ()
    arms, known = [], len(joints) == len(environment.controllers)
    for index, controller in enumerate(environment.controllers):
        of_joints = tuple(f"joint {joint}" for joint in range(joints[index])) if known else ()
        arms.append(of_joints if controller.kind.startswith("JOINT") else _NUMBERS.get(controller.kind, ()))
    total = sum(map(len, arms))
    if width < total:
        kinds = ", ".join(dict.fromkeys(controller.kind for controller in environment.controllers))
        raise UserError(
            f"{where}: {width} numbers a step, and {kinds} of {', '.join(environment.robots)} takes {total} or more; "
            "correct env_args"
        )
    if not arms or not all(arms) or not all(controller.is_plain for controller in environment.controllers):
        return ()
    if width == total + len(arms):
        arms = [(*names, GRIPPER) for names in arms]
    elif width != total:
        return ()
    if len(arms) == 1:
        return arms[0]
    return tuple(f"robot{index} {name}" for index, names in enumerate(arms) for name in names)


def _controllers(stored: Any, robots: int) -> list[ArmController]:
    """Returns the controller of each arm, in the order of the numbers of an action; of one where no robot is named."""
    configs = stored if isinstance(stored, list) else [stored] * max(1, robots)
    found = []
    for config in map(_members, configs):
        parts = _members(config.get("body_parts"))
        arms = [_members(parts[arm]) for arm in _ARMS if arm in parts] or [config]
        # Of a base, a torso or a head come further numbers.
        alone = all(part in _ARMS for part in parts)
        found += [_controller(arm, alone) for arm in arms if isinstance(arm.get("type"), str)]
    return found if len(configs) == max(1, robots) else []


def _controller(config: Mapping[str, Any], alone: bool) -> ArmController:
    said = config.get("control_delta", {"delta": True, "absolute": False}.get(str(config.get("input_type"))))
    is_plain = alone and config.get("impedance_mode") in (None, "fixed")
    return ArmController(config["type"], said if isinstance(said, bool) else None, is_plain)


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None


def _members(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
