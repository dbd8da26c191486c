"""The transforms of a model as data: stored beside its parameters, and compared with the cards of datasets."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np

from rlgen.core.errors import UserError
from rlgen.core.files import read_json
from rlgen.core.types import LIBERO, Robot
from rlgen.data.card import CARD_JSON
from rlgen.vla.data.normalize import FIELDS, LIBERO_DELTA, NormStats, Statistics
from rlgen.vla.data.tokens import Encode, hashed_words, sentencepiece
from rlgen.vla.data.transforms import DeltaActions, Normalize, Pad, Pipeline, Repack, Resize, Tokenize
from rlgen.vla.model.config import (
    CAMERAS,
    STORED_AS,
    ExpertConfig,
    LoraConfig,
    NormalizationKind,
    VisionConfig,
    VlaConfig,
)

Semantics = Literal["relative", "absolute"]
HASHED_WORDS = "words"
"""The name of the tokenizer that needs no file."""
PADDING = 1e-6
"""Statistics below this are of vectors that were padded with zeros; openpi's quantiles of zeros are some 1e-10."""
ROBOT_FIELDS = ("state", "action", "state_names", "action_names")
"""Fields of a robot that are stored; joints are no input of a model."""
LARGEST_SIZE, LARGEST_INPUT = 1 << 20, 4096
"""The largest sizes that the description of a model may have: any, and those that no parameter has."""


@dataclass(frozen=True)
class InputSpec:
    """The transforms of a model.

    Attributes:
      normalization: z-scores (pi0) or quantiles (pi0.5).
      actions: what the robot executes: movements relative to its pose, or absolute poses.
      delta: the model learns actions minus the state. Right for absolute actions; of relative ones it makes
        differences of differences, which openpi's released pi0 for LIBERO was trained on and has to be served with.
      tokenizer: `words` for hashed words, or the path of a SentencePiece model.
      robot: whose states it reads and whose actions it returns.
    """

    normalization: NormalizationKind = "zscore"
    actions: Semantics = "relative"
    delta: bool = False
    tokenizer: str = HASHED_WORDS
    robot: Robot = LIBERO

    @property
    def is_double_delta(self) -> bool:
        """Returns whether the state is subtracted from actions that are relative already."""
        return self.delta and self.actions == "relative"


def released_spec(name: str, tokenizer: str) -> InputSpec:
    """Returns the transforms of openpi's released model of a preset's name, with the path of its tokenizer."""
    return InputSpec(default_normalization(name), delta=name.startswith("pi0_libero"), tokenizer=tokenizer)


def default_normalization(name: str) -> NormalizationKind:
    """Returns the normalization of a preset: quantiles for pi0.5, z-scores otherwise."""
    return "quantile" if name.startswith("pi05") else "zscore"


def make_pipeline(config: VlaConfig, spec: InputSpec, stats: NormStats, encode: Encode | None = None) -> Pipeline:
    """Makes the transforms between a robot and a model.

    Args:
      config: the model.
      spec: its transforms.
      stats: its normalization statistics.
      encode: the tokenizer; by default the one that `spec` names.

    Raises:
      UserError: the file of the tokenizer cannot be read, or statistics or model are of other widths than the robot.
    """
    stats, robot = of_robot(stats, "the statistics", spec.robot), spec.robot
    check_robot(config, spec)
    delta = [DeltaActions(LIBERO_DELTA)] if spec.delta else []
    return Pipeline(
        (
            Repack(config.cameras, robot.action),
            *delta,
            Normalize(stats, spec.normalization, config.state_limit),
            Resize(config.image_size),
            make_tokenizer(spec, config, encode),
            Pad(config.action_size, robot.state),
        ),
        robot,
    )


def check_robot(config: VlaConfig, spec: InputSpec, where: str = "") -> None:
    """Checks that a model has room for its robot's numbers, and that its transforms are made for them.

    Args:
      config: the model.
      spec: its transforms.
      where: beginning of the message.

    Raises:
      UserError: it has less room, or the state is subtracted from actions, whose numbers for that are LIBERO's.
    """
    robot, room = spec.robot, max(spec.robot.state, spec.robot.action)
    for name, size in (("states", robot.state), ("actions", robot.action)):
        if size > config.action_size:
            raise UserError(
                f"{where}a model of action_size {config.action_size} has no room for {name} of {size} numbers; "
                f"expected {size} or more: a larger model, or --action-size {room} for a fresh one"
            )
    if spec.delta and not robot.is_libero:
        raise UserError(
            f"{where}the state is subtracted from actions as LIBERO's robot has them, in {LIBERO}, and these "
            f"are {robot}; train without --delta"
        )


def make_tokenizer(spec: InputSpec, config: VlaConfig, encode: Encode | None = None) -> Tokenize:
    """Makes the transform of prompts.

    Args:
      spec: transforms of a model.
      config: the model.
      encode: the tokenizer; by default the one that `spec` names.

    Raises:
      UserError: the file of the tokenizer cannot be read.
    """
    encode = encode or make_encoder(spec, config)
    return Tokenize(encode, config.prompt_length, config.state_in_prompt, spec.robot.state)


def make_encoder(spec: InputSpec, config: VlaConfig) -> Encode:
    """Makes the tokenizer; `UserError` where its file cannot be read."""
    if spec.tokenizer == HASHED_WORDS:
        return hashed_words(config.vocabulary)
    return sentencepiece(Path(spec.tokenizer), config.vocabulary)


def of_robot(stats: NormStats, where: str, robot: Robot = LIBERO) -> NormStats:
    """Returns statistics of as many numbers as a robot has.

    openpi's older files go on behind them with the zeros to which the vectors had been padded; these are left out.

    Args:
      stats: of states and actions.
      where: beginning of the message, such as the file's path.
      robot: that they are for.

    Raises:
      UserError: they are of other states or actions.
    """
    sizes = {"state": robot.state, "actions": robot.action}
    cut = {name: _without_padding(getattr(stats, name), size) for name, size in sizes.items()}
    check_widths(len(cut["state"].mean), len(cut["actions"].mean), where, robot)
    return NormStats(**cut)


def _without_padding(stats: Statistics, size: int) -> Statistics:
    fields = {field: np.asarray(getattr(stats, field)) for field in FIELDS}
    is_padded = all(np.abs(x[size:]).max(initial=0) < PADDING for x in fields.values())
    return Statistics(**{field: x[:size] for field, x in fields.items()}) if is_padded else stats


def check_widths(state: int, action: int, where: str, robot: Robot = LIBERO) -> None:
    """Checks that states and actions are a robot's.

    Args:
      state: numbers in a state.
      action: numbers in an action.
      where: beginning of the message, such as a dataset.
      robot: that they are for.

    Raises:
      UserError: they are not; nothing is cut or padded to fit, as the last number may be the gripper's.
    """
    if (state, action) == (robot.state, robot.action):
        return
    found, meanings = Robot(state, action), (" (position, axis-angle, fingers)", " (movement, gripper)")
    of_state, of_action = meanings if robot.is_libero else ("", "")
    raise UserError(
        f"{where}: {found}, expected {robot.state}{of_state} and {robot.action}{of_action}; "
        "bring the data into this form first"
    )


def common_robot(robots: Mapping[str, Robot]) -> Robot:
    """Returns the robot of several datasets, with the names of the first that has some.

    Args:
      robots: those of the datasets, by the name of each; one at least.

    Raises:
      UserError: they have different widths, or the same names in another order.
    """
    (first, robot), *others = robots.items()
    for name, other in others:
        if (other.state, other.action) != (robot.state, robot.action):
            raise UserError(f"{name}: {other}, and in {first} {robot}; train on datasets of one robot at a time")
        for field in ("state_names", "action_names"):
            ours, theirs = getattr(robot, field), getattr(other, field)
            if ours != theirs and sorted(ours) == sorted(theirs):
                raise UserError(
                    f"{name}: numbers in another order, {', '.join(theirs)}, than in {first}, {', '.join(ours)}; "
                    "bring them into one order first"
                )
            robot = robot if ours else dataclasses.replace(robot, **{field: theirs})
    return robot


def has_other_gripper(low: float, high: float) -> bool:
    """Returns whether gripper commands from `low` to `high` go from 0 to 1, which LIBERO's, -1 and 1, do not."""
    return low >= 0 and high - low > 0.5 and high <= 1


def read_action_semantics(folder: Path) -> Any:
    """Reads `action_semantics` of a dataset's card; None where there is no card or it does not say.

    Raises:
      UserError: there is no such folder, or the card cannot be read.
    """
    if not Path(folder).exists():  # HDF5 files are named one by one
        raise UserError(f"{folder}: no such folder; expected a dataset such as <suite>_no_noops/1.0.0")
    path = Path(folder) / CARD_JSON
    if not path.is_file():
        return None
    try:
        return read_json(path).get("action_semantics")
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}); export the dataset again") from error


def check_dataset(spec: InputSpec, semantics: Any, where: str, *, double_delta: bool = False) -> None:
    """Checks that a model can be trained on the actions of a dataset.

    Args:
      spec: of the model.
      semantics: the card's `action_semantics`, None where it does not say.
      where: the dataset, for messages.
      double_delta: subtract the state from relative actions on purpose.

    Raises:
      UserError: the card says nothing or something else, or the state would be subtracted twice.
    """
    if semantics not in ("relative", "absolute"):
        raise UserError(
            f"{where} does not say what its actions are (action_semantics {semantics!r}); pass --actions relative for "
            "LIBERO's own, or absolute"
        )
    if semantics != spec.actions:
        raise UserError(f"actions of {where} are {semantics}, the model's are {spec.actions}; use one kind for both")
    if spec.is_double_delta and not double_delta:
        raise UserError(
            f"actions of {where} are relative and the model would subtract the state from them once more; train "
            "without delta, or pass --double-delta to do as openpi's released pi0 for LIBERO"
        )


def to_json(config: VlaConfig, spec: InputSpec) -> dict[str, Any]:
    """Returns model and transforms as JSON; a limit of infinity is None."""
    sizes = dataclasses.asdict(config)
    sizes["state_limit"] = None if np.isinf(config.state_limit) else config.state_limit
    inputs = {STORED_AS.get(name, name): value for name, value in dataclasses.asdict(spec).items()}
    inputs["robot"] = {name: getattr(spec.robot, name) for name in ROBOT_FIELDS}
    if all(getattr(LIBERO, name) == each for name, each in inputs["robot"].items()):
        del inputs["robot"]  # as in models of before
    return {"format": 1, "model": sizes, "inputs": inputs}


def from_json(value: dict[str, Any]) -> tuple[VlaConfig, InputSpec]:
    """Reads what `to_json` returns.

    Raises:
      UserError: it is damaged, or of another version.
    """
    try:
        if value["format"] != 1:
            raise ValueError(f"format {value['format']}")
        sizes = dict(value["model"])
        vision = VisionConfig(**sizes.pop("vision"))
        experts = {name: _expert(sizes.pop(name)) for name in ("language", "action")}
        limit = sizes.pop("state_limit")
        sizes["cameras"] = tuple(sizes.get("cameras", CAMERAS))
        config = VlaConfig(
            vision=vision, **experts, state_limit=float("inf") if limit is None else float(limit), **sizes
        )
        names = {stored: name for name, stored in STORED_AS.items()}
        transforms: dict[str, Any] = {str(names.get(key, key)): field for key, field in value["inputs"].items()}
        transforms["robot"] = _robot(transforms.get("robot"))
        spec = InputSpec(**transforms)
        for part in (config, config.vision, config.language, config.action, spec):
            _check_fields(part)
        inputs = (config.image_size, config.horizon, config.prompt_length)
        if not all(1 <= size <= LARGEST_INPUT for size in inputs):
            raise ValueError(f"image_size, horizon and prompt_length are {inputs}, at most {LARGEST_INPUT}")
        return config, spec
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(f"the model's description is damaged or of another version ({error})") from error


def _check_fields(part: Any) -> None:
    """Raises `ValueError` where a field has another type than it is declared with, or is far too large."""
    for field in dataclasses.fields(part):
        value, kind = getattr(part, field.name), field.type
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        fits = {
            # Of all sizes only the number of blocks may be 0.
            int: type(value) is int and (field.name != "depth") <= value <= LARGEST_SIZE,
            bool: type(value) is bool,
            str: isinstance(value, str),
            float: isinstance(value, float) and value > 0,
        }.get(kind, value in choices if choices else True)
        if not fits:
            raise ValueError(f"{field.name} is {str(value)[:40]!r}")


def _robot(value: Any) -> Robot:
    """Returns a robot as it is stored, LIBERO's where there is none; raises as `from_json` catches it."""
    if value is None:
        return LIBERO
    fields: dict[str, Any] = {name: value[name] for name in ROBOT_FIELDS}
    fields |= {name: tuple(each) for name, each in fields.items() if isinstance(each, list)}
    robot = Robot(**fields)
    for name in ("state", "action"):
        size, names = getattr(robot, name), getattr(robot, f"{name}_names")
        if type(size) is not int or not 0 < size <= LARGEST_SIZE:
            raise ValueError(f"robot.{name} is {str(size)[:40]!r}")
        if not isinstance(names, tuple) or len(names) not in (0, size) or not all(isinstance(n, str) for n in names):
            raise ValueError(f"robot.{name}_names are {str(names)[:40]!r} for {size} numbers")
    return robot


def _expert(value: dict[str, Any]) -> ExpertConfig:
    lora = value["lora"]
    return ExpertConfig(value["width"], value["mlp"], None if lora is None else LoraConfig(**lora))
