"""Robots that are not LIBERO's: their widths go from the data to the answers, and LIBERO's rules stay with LIBERO."""

import dataclasses
import json

import jax
import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
from foreign_hdf5 import two_arms, write_act
from foreign_rlds import PROMPT, Foreign
from vla.toy import CONFIG, SIDE, dot_episodes, settings

from rlgen.core.errors import UserError
from rlgen.core.types import LIBERO, Robot
from rlgen.data.dataset import encoded_format
from rlgen.data.episode import DatasetEpisode
from rlgen.data.frames import MemoryFrames, frame_table
from rlgen.data.loader import mix
from rlgen.data.writer import write_dataset
from rlgen.evaluation import backends
from rlgen.vla.checkpoints.model_folder import read_description, write_model
from rlgen.vla.data.normalize import NormStats, statistics
from rlgen.vla.data.spec import InputSpec, check_robot, common_robot, from_json, make_pipeline, to_json
from rlgen.vla.data.training_statistics import training_statistics
from rlgen.vla.model import pi0
from rlgen.vla.serving.actor import check_for_environment
from rlgen.vla.serving.client import PolicyClient
from rlgen.vla.serving.policy import VlaPolicy, open_policy, policy_metadata
from rlgen.vla.serving.server import PolicyServer, serving
from rlgen.vla.training.checks import check_inputs
from rlgen.vla.training.fine_tune import fine_tune

WIDE = dataclasses.replace(CONFIG, action_size=16)
JOINTS = tuple(f"{side}_joint_{i}" for side in ("left", "right") for i in range(7))
ARMS = Robot(9, 14, action_names=JOINTS)
SENSORS = [f"eef_pos {a}" for a in "xyz"] + [f"eef_quat {a}" for a in "xyzw"] + [f"gripper_qpos {i}" for i in (0, 1)]
POSE = ("x", "y", "z", "turn x", "turn y", "turn z", "gripper")
TWO_ARMS = Robot(
    18,
    14,
    state_names=tuple(f"robot{i}_{name}" for i in (0, 1) for name in SENSORS),
    action_names=tuple(f"robot{i} {name}" for i in (0, 1) for name in POSE),
)
SPEC = InputSpec(actions="absolute", robot=ARMS)


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def stats_of(robot: Robot) -> NormStats:
    random = np.random.default_rng(0)
    return NormStats(*(statistics(random.normal(0, 0.5, (60, size))) for size in (robot.state, robot.action)))


def observation(state: int) -> dict:
    image = np.full((SIDE, SIDE, 3), 100, np.uint8)
    return {
        "observation/image": image,
        "observation/wrist_image": image,
        "observation/state": np.zeros(state, np.float32),
        "prompt": PROMPT,
    }


@pytest.mark.unit
def test_vectors_of_another_robot_fill_the_model_and_come_back_whole():
    pipeline, stats = make_pipeline(WIDE, SPEC, stats_of(ARMS)), stats_of(ARMS)
    state, actions = np.linspace(-1, 1, 9, dtype=np.float32), np.arange(28, dtype=np.float32).reshape(2, 14)
    inside = pipeline.inputs({**observation(9), "observation/state": state, "actions": actions})
    assert inside["state"].shape == (16,) and inside["actions"].shape == (2, 16)
    expected = (state - stats.state.mean) / (stats.state.std + 1e-6)
    np.testing.assert_allclose(inside["state"][:9], expected, rtol=1e-5)
    assert not inside["state"][9:].any() and not inside["actions"][:, 14:].any()
    np.testing.assert_allclose(pipeline.outputs(inside)["actions"], actions, atol=1e-4)
    with pytest.raises(UserError, match="the state has 8 dimensions, the model was trained with 9") as error:
        pipeline.inputs(observation(8))
    one_line(error)


@pytest.mark.unit
def test_a_model_with_less_room_and_the_difference_from_the_state_are_refused():
    for config, spec, message in (
        (CONFIG, SPEC, "d: a model of action_size 8 has no room for states of 9 numbers; .* --action-size 14"),
        (
            dataclasses.replace(CONFIG, action_size=13),
            SPEC,
            "d: a model of action_size 13 has no room for actions of 14 numbers; expected 14 or more",
        ),
        (
            WIDE,
            dataclasses.replace(SPEC, delta=True),
            "d: the state is subtracted .* states of 9 numbers and actions of",
        ),
    ):
        with pytest.raises(UserError, match=message) as error:
            check_robot(config, spec, "d: ")
        one_line(error)
        with pytest.raises(UserError, match=message.removeprefix("d: ")):
            make_pipeline(config, spec, stats_of(ARMS))
    with pytest.raises(UserError, match="states of 8 numbers and actions of 7, expected 9 and 14"):
        make_pipeline(WIDE, SPEC, stats_of(LIBERO))


@pytest.mark.unit
def test_the_models_description_says_the_robot_and_liberos_is_as_it_was():
    assert "robot" not in to_json(CONFIG, InputSpec())["inputs"]
    value = json.loads(json.dumps(to_json(WIDE, SPEC)))
    assert value["inputs"]["robot"] == {
        "state": 9, "action": 14, "state_names": [], "action_names": list(JOINTS)
    }  # fmt: skip
    assert from_json(value) == (WIDE, SPEC)


@pytest.mark.unit
@pytest.mark.parametrize(
    "change",
    [
        {"state": 0},
        {"state": True},
        {"action": 10**9},
        {"action": "14"},
        {"action_names": ["a"]},
        {"state_names": [1] * 9},
    ],
)
def test_a_damaged_robot_is_refused(change):
    value = json.loads(json.dumps(to_json(WIDE, SPEC)))
    value["inputs"]["robot"] |= change
    with pytest.raises(UserError, match=r"description is damaged or of another version \(robot\."):
        from_json(value)
    for robot in (5, [], {"state": 9}):
        value["inputs"]["robot"] = robot
        with pytest.raises(UserError, match="description is damaged"):
            from_json(value)


@pytest.mark.unit
def test_datasets_of_different_robots_are_not_mixed():
    named = Robot(8, 8, action_names=tuple("abcdefgh"))
    assert common_robot({"a": Robot(8, 8), "b": named}) == named
    assert common_robot({"a": named, "b": Robot(8, 8, action_names=tuple("ABCDEFGH"))}) == named
    with pytest.raises(
        UserError,
        match=r"^b: states of 8 numbers and actions of 8, and in a states of 8 numbers and actions of 7; train",
    ) as error:
        common_robot({"a": LIBERO, "b": named})
    one_line(error)
    with pytest.raises(UserError, match=r"^b: numbers in another order, h, g, f, e, d, c, b, a, than in a, a, b, c"):
        common_robot({"a": named, "b": Robot(8, 8, action_names=tuple("hgfedcba"))})


def frames_of(state: np.ndarray, action: np.ndarray):
    images = np.random.default_rng(0).integers(0, 255, (2, len(state), 8, 8, 3), np.uint8)
    table = frame_table(state, action, [len(state)], ["go"])
    return mix([MemoryFrames(table, *images, robot=Robot(state.shape[1], action.shape[1]))])


@pytest.mark.unit
def test_rules_of_liberos_numbers_are_left_out_for_others_and_a_line_says_so():
    random = np.random.default_rng(0)
    state, action = (random.uniform(-90, 90, (40, size)).astype(np.float32) for size in (9, 8))
    action[:, -1] = np.arange(40) % 2  # a gripper from 0 to 1, in LIBERO's place
    mixture, spec = frames_of(state, action), InputSpec(robot=Robot(9, 8))
    notes = check_inputs(spec, ["d"], mixture)
    assert notes[0].startswith("the data are of another robot than LIBERO's, with states of 9 numbers and actions of 8")
    assert len(notes) == 1 + 9 + 7 and "d: state[0] goes from" in notes[1] and "this unit" in notes[1]
    stats, others = training_statistics(WIDE, spec, mixture)
    assert (len(stats.state.mean), len(stats.actions.mean)) == (9, 8) and not any("gripper" in each for each in others)
    # What holds for any robot still holds: absolute positions that are called relative.
    state[:, :3] = action[:, :3] = random.normal(size=(40, 3))
    with pytest.raises(UserError, match=r"d: actions\[0\] to actions\[2\] are the position itself"):
        check_inputs(spec, ["d"], frames_of(state, action))
    one = frames_of(state[:, :1], action[:, :1])
    with pytest.raises(UserError, match=r"actions\[0\] to actions\[0\] are the position itself"):
        check_inputs(InputSpec(robot=Robot(1, 1)), ["d"], one)


@pytest.mark.unit
def test_liberos_environment_refuses_a_model_of_another_robot(monkeypatch):
    message = "m is of another robot, with states of 9 numbers and actions of 14; LIBERO's has states of 8 .* of 7"
    policy = VlaPolicy(WIDE, {}, make_pipeline(WIDE, SPEC, stats_of(ARMS)), spec=SPEC)
    with pytest.raises(UserError, match=message) as error:
        check_for_environment(policy, "m")
    one_line(error)

    class Client:
        metadata = policy_metadata("runs/m", 10, ARMS)

        def __init__(self, *_, **__):
            pass

        def abort(self):
            pass

    monkeypatch.setattr(backends, "PolicyClient", Client)
    with pytest.raises(UserError, match=f"^server here: .*{message.removeprefix('m ')}") as error:
        backends.ServerBackend("here", 1)
    one_line(error)


def lerobot_of_arms(folder):
    """Writes a LeRobot dataset of two arms: states and actions of 14 joints, with names."""
    made = dot_episodes(6, 0)
    episodes = [
        DatasetEpisode(
            image=e.image,
            wrist_image=255 - e.image,
            state=e.state.astype(np.float32),
            joint_state=np.zeros((3, 7), np.float32),
            action=e.action.astype(np.float32),
            language_instruction=PROMPT,
            file_path=f"arms/{index}",
        )
        for index, e in enumerate(made)
    ]
    folder = write_dataset(folder, "arms", episodes, encoded_format("lerobot", [PROMPT] * 6), lengths=[6], size=SIDE)
    for name in ("export.json", "episodes.json"):  # without these it is a dataset of others
        (folder / name).unlink()
    random = np.random.default_rng(0)
    for path in (folder / "data").rglob("*.parquet"):
        table = parquet.read_table(path)
        for column in ("observation.state", "action"):
            values = pyarrow.array(random.normal(0, 0.5, (len(table), 14)).tolist(), pyarrow.list_(pyarrow.float32()))
            table = table.set_column(table.column_names.index(column), column, values)
        parquet.write_table(table.replace_schema_metadata(None), path)
    path = folder / "meta/info.json"
    info = json.loads(path.read_text())
    for column in ("observation.state", "action"):
        info["features"][column] |= {"shape": [14], "names": {"motors": list(JOINTS)}}
    path.write_text(json.dumps(info))
    return folder


DATA = {
    "RLDS, actions of 8": (lambda folder: Foreign(action=8).write(folder), Robot(8, 8)),
    "RLDS, actions of 14": (lambda folder: Foreign(action=14).write(folder), Robot(8, 14)),
    "RLDS, states of 9": (lambda folder: Foreign(state=9).write(folder), Robot(9, 7)),
    "LeRobot, 14": (lerobot_of_arms, Robot(14, 14, state_names=JOINTS, action_names=JOINTS)),
    "HDF5 of robomimic": (lambda folder: two_arms(folder / "image.hdf5"), TWO_ARMS),
    "HDF5 of ACT": (write_act, Robot(14, 14)),
}


def run_of(folder, out, robot, **changes):
    actions = {"actions": "absolute" if robot.state == 14 else "relative"}
    return settings([folder], out, **actions, action_size=max(8, robot.state, robot.action), **changes)


def test_a_dry_run_prints_widths_and_names(tmp_path):
    folder, lines = lerobot_of_arms(tmp_path / "data"), []
    robot = DATA["LeRobot, 14"][1]
    assert fine_tune(run_of(folder, tmp_path / "run", robot, dry_run=True), lines.append) is None
    text = "\n".join(lines)
    assert "widths: states of 14 and actions of 14 numbers, in vectors of 14" in text
    assert all(text.count(f"  {name} ") == 2 for name in JOINTS)
    with pytest.raises(UserError, match=r"joint positions by .*left_joint_0"):
        fine_tune(dataclasses.replace(run_of(folder, tmp_path / "run", robot), actions="relative"), lines.append)
    with pytest.raises(UserError, match="the state is subtracted from actions as LIBERO's robot has them"):
        fine_tune(run_of(folder, tmp_path / "run", robot, delta=True), lines.append)
    libero = Foreign().write(tmp_path / "libero")
    both = dataclasses.replace(run_of(folder, tmp_path / "run", robot), data=(str(libero), str(folder)), mix=())
    with pytest.raises(
        UserError, match=f"{folder}: states of 14 numbers and actions of 14, and in {libero} states of 8"
    ):
        fine_tune(both, lines.append)
    path = folder / "meta/info.json"
    info = json.loads(path.read_text())
    info["features"]["action"] |= {"shape": [12], "names": None}
    path.write_text(json.dumps(info))
    with pytest.raises(UserError, match=r"parquet: record 0 .*: action has 14 numbers a step, expected 12, as"):
        fine_tune(run_of(folder, tmp_path / "run", robot), lines.append)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", [name for name in DATA if "HDF5" in name])
def test_a_dry_run_of_hdf5_says_what_is_read(tmp_path, name):
    (make, robot), lines = DATA[name], []
    folder = make(tmp_path / "data")
    assert fine_tune(run_of(folder, tmp_path / "run", robot, dry_run=True), lines.append) is None
    text = "\n".join(lines)
    assert f"states of {robot.state} and actions of {robot.action} numbers, in vectors of" in text
    assert all(text.count(f"  {name} ") == 1 for name in robot.state_names + robot.action_names)
    wrong = {18: "absolute", 14: "relative"}[robot.state]
    with pytest.raises(UserError, match=rf"{folder}.*: its actions are .* by {folder}.* \("):
        fine_tune(dataclasses.replace(run_of(folder, tmp_path / "run", robot), actions=wrong), lines.append)
    with pytest.raises(UserError, match=f"^{folder} does not say what its actions are .* pass --actions relative"):
        fine_tune(dataclasses.replace(run_of(folder, tmp_path / "run", robot), actions=None), lines.append)


def check_served(model, robot):
    """Checks what the folder of a model says of its robot, and what its server answers and refuses."""
    config, spec, stats = read_description(model)
    assert spec.robot == robot and config.action_size >= max(robot.state, robot.action)
    assert (len(stats.state.mean), len(stats.actions.mean)) == (robot.state, robot.action)
    policy = open_policy(model, sampling_steps=2, batch=2)
    metadata = policy_metadata(model, config.horizon, robot)
    with serving(PolicyServer(policy, metadata)) as address:
        answer = PolicyClient(address).infer(observation(robot.state))["actions"]
        assert answer.shape == (config.horizon, robot.action) and np.isfinite(answer).all()
        with pytest.raises(UserError, match=f"the state has 10 dimensions, the model was trained with {robot.state}"):
            PolicyClient(address).infer(observation(10))
        with pytest.raises(UserError, match=f"is of another robot, with {robot}; LIBERO's has"):
            backends.ServerBackend(address, 1)


def test_a_model_of_another_robot_is_written_opened_and_served(tmp_path):
    params = pi0.init(WIDE, jax.random.key(0))
    write_model(tmp_path / "m", WIDE, SPEC, stats_of(ARMS), params)
    check_served(tmp_path / "m", ARMS)


@pytest.mark.slow
@pytest.mark.parametrize("name", DATA)
def test_a_model_of_another_robot_is_trained_resumed_and_served(tmp_path, name):
    make, robot = DATA[name]
    folder, out = make(tmp_path / "data"), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        fine_tune(run_of(folder, out, robot), stop_at_step(2))
    model = fine_tune(run_of(folder, out, robot), lambda line: None)
    check_served(model, robot)


def stop_at_step(step):
    def log(line):
        if line.startswith(f"step {step} "):
            raise KeyboardInterrupt

    return log
