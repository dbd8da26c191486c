"""Numbers that a model would take in without a word and answer wrongly: other widths, not finite, other conventions."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from vla.toy import CONFIG

from rlgen.core.actions import binarize_gripper
from rlgen.core.errors import UserError
from rlgen.data.frames import MemoryFrames, frame_table
from rlgen.data.loader import mix
from rlgen.evaluation import backends
from rlgen.evaluation.backends import InProcessBackend, ServerBackend
from rlgen.vla.checkpoints.model_folder import DESCRIPTION, STATS, read_description, read_stats, write_model
from rlgen.vla.checkpoints.openpi import read_params, write_params
from rlgen.vla.checkpoints.weights import expected_params, read_paligemma
from rlgen.vla.data import spec as specs
from rlgen.vla.data.normalize import NormStats, Statistics, statistics
from rlgen.vla.data.spec import InputSpec, make_pipeline
from rlgen.vla.data.training_statistics import training_statistics
from rlgen.vla.model import presets
from rlgen.vla.serving.actor import VlaActor
from rlgen.vla.serving.policy import open_policy
from rlgen.vla.training.loop import run_steps

WIDTHS = [(8, 8), (8, 14), (9, 7), (7, 7), (8, 6), (14, 14), (1, 1)]


def stats_of(state: int = 8, actions: int = 7) -> NormStats:
    random = np.random.default_rng(0)
    return NormStats(*(statistics(random.normal(0, 0.5, (60, size))) for size in (state, actions)))


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def data(state: int = 8, action: int = 7):
    values, images = (np.ones((7, size), np.float32) for size in (state, action)), np.zeros((7, 8, 8, 3), np.uint8)
    return mix([MemoryFrames(frame_table(*values, [4, 3], ["go", "go"]), images, images)])


@pytest.mark.parametrize("state, action", WIDTHS)
def test_data_of_other_widths_is_refused_with_both(state, action):
    for mixtures in ((data(state, action),), (data(), data(state, action))):
        with pytest.raises(UserError, match=f"states of {state} numbers and actions of {action}, expected 8") as error:
            training_statistics(CONFIG, InputSpec(), *mixtures)
        assert "and 7 (movement, gripper)" in one_line(error)


@pytest.mark.parametrize("state, action", WIDTHS)
def test_statistics_of_other_widths_are_refused_with_the_file(state, action, tmp_path):
    path = tmp_path / STATS
    path.write_text(json.dumps(stats_of(state, action).to_json()))
    with pytest.raises(
        UserError, match=rf"norm_stats\.json: states of {state} numbers and actions of {action}"
    ) as error:
        read_stats(path)
    one_line(error)
    with pytest.raises(UserError, match=f"states of {state} numbers and actions of {action}"):
        make_pipeline(CONFIG, InputSpec(), stats_of(state, action))


@pytest.mark.parametrize("folder", ["ours", "openpi's"])
def test_a_model_of_other_widths_is_not_opened(folder, tmp_path):
    """Before its parameters are read, of which there are none here."""
    if folder == "ours":
        assets, options = tmp_path / "assets" / "libero", {}
        value = specs.to_json(CONFIG, InputSpec()) | {"asset": "libero"}
        (tmp_path / DESCRIPTION).write_text(json.dumps(value))
    else:
        assets, options = tmp_path / "assets" / "trossen", {"preset": "pi05", "tokenizer": "paligemma_tokenizer.model"}
    assets.mkdir(parents=True)
    (assets / STATS).write_text(json.dumps(stats_of(14, 14).to_json()))
    with pytest.raises(UserError, match="states of 14 numbers and actions of 14, expected 8"):
        open_policy(tmp_path, **options)


def test_the_padding_of_openpis_older_statistics_is_no_width(tmp_path):
    stats = stats_of()
    padded = NormStats(
        *(
            Statistics(*(np.pad(x, (0, 32 - len(x)), constant_values=-1e-10) for x in vars(each).values()))
            for each in (stats.state, stats.actions)
        )
    )
    for each in (padded.state, padded.actions):
        each.std[each.std < 0] = 0
    (tmp_path / STATS).write_text(json.dumps(padded.to_json()))
    found = read_stats(tmp_path / STATS)
    assert (len(found.state.mean), len(found.actions.mean)) == (8, 7)
    np.testing.assert_array_equal(found.actions.q01, stats.actions.q01)


def test_a_model_without_room_for_the_state_is_refused():
    with pytest.raises(UserError, match="action_size 7 has no room for states of 8"):
        make_pipeline(dataclasses.replace(CONFIG, action_size=7), InputSpec(), stats_of())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("name, vector", [("state", "state"), ("actions", "action")])
def test_a_number_of_the_data_that_is_none_is_named(name, vector, bad):
    good, broken = data(), data()
    getattr(broken.subsets[0].frames.table, vector)[5, 2] = bad
    for mixtures in ((broken,), (good, broken)):
        with pytest.raises(UserError, match=rf"^{name}\[2\] of the data goes from ") as error:
            training_statistics(CONFIG, InputSpec("quantile"), *mixtures)
        one_line(error)


HOSTILE = {
    "a list": lambda value: [value],
    "a text": lambda value: "norm_stats",
    "none": lambda value: None,
    "statistics none": lambda value: {"norm_stats": None},
    "an empty list": lambda value: changed(value, "std", []),
    "empty lists": lambda value: {"norm_stats": {k: {f: [] for f in v} for k, v in value["norm_stats"].items()}},
    "a number": lambda value: changed(value, "mean", 3),
    "texts": lambda value: changed(value, "mean", ["1"] * 8),
    "truths": lambda value: changed(value, "mean", [True] * 8),
    "nothings": lambda value: changed(value, "q01", [None] * 8),
    "a list of lists": lambda value: changed(value, "q99", [[1.0]] * 8),
    "a deep list": lambda value: changed(value, "mean", json.loads("[" * 500 + "]" * 500)),
    "not a number": lambda value: changed(value, "std", [float("nan")] * 8),
    "infinity": lambda value: changed(value, "q99", [float("inf")] * 8),
    "beyond float32": lambda value: changed(value, "q99", [1e39] * 8),
    "beyond any float": lambda value: changed(value, "q99", [10**400] * 8),
    "another length": lambda value: changed(value, "mean", [0.0] * 7),
    "a negative deviation": lambda value: changed(value, "std", [-1.0] * 8),
    "quantiles exchanged": lambda value: changed(value, "q01", [9.0] * 8),
}


def changed(value, field, new):
    value["norm_stats"]["state"][field] = new
    return value


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_statistics_are_refused_in_a_line_with_their_file(kind, tmp_path):
    path = tmp_path / STATS
    path.write_text(json.dumps(HOSTILE[kind](stats_of().to_json())))
    with pytest.raises(UserError, match=r"norm_stats\.json: no readable statistics") as error:
        read_stats(path)
    assert len(one_line(error)) < 400


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"norm_stats": 1' + b"0" * 5000 + b"}"])
def test_a_file_that_is_no_json_is_refused_in_a_line(text, tmp_path):
    (tmp_path / STATS).write_bytes(text)
    with pytest.raises(UserError, match="no readable statistics") as error:
        read_stats(tmp_path / STATS)
    one_line(error)
    (tmp_path / DESCRIPTION).write_bytes(text)
    with pytest.raises(UserError, match=r"rlgen\.json is damaged") as error:
        read_description(tmp_path)
    one_line(error)


@pytest.mark.parametrize(
    "part, change",
    [
        ("inputs", {"normalisation": "minmax"}),
        ("inputs", {"delta": "no"}),
        ("inputs", {"actions": 3}),
        ("inputs", {"tokenizer": None}),
        ("model", {"heads": 0}),
        ("model", {"depth": "2"}),
        ("model", {"depth": 2.5}),
        ("model", {"depth": True}),
        ("model", {"depth": -1}),
        ("model", {"horizon": 10**9}),
        ("model", {"prompt_length": 10**6}),
        ("model", {"image_size": 32 * 10**4}),
        ("model", {"vocabulary": 10**12}),
        ("model", {"dtype": "int8"}),
        ("model", {"state_limit": float("nan")}),
        ("model", {"state_limit": -1}),
        ("model", {"cameras": 3}),
    ],
)
def test_hostile_descriptions_of_models_are_refused_in_a_line_with_their_file(part, change, tmp_path):
    value = specs.to_json(CONFIG, InputSpec())
    value[part] |= change
    (tmp_path / DESCRIPTION).write_text(json.dumps(value))
    with pytest.raises(UserError, match=r"rlgen\.json is damaged") as error:
        read_description(tmp_path)
    one_line(error)


# Not finite --------------------------------------------------------------------------------------------------------


def sample(**changes):
    images = np.zeros((2, 32, 32, 3), np.uint8)
    return {
        "observation/image": images,
        "observation/wrist_image": images,
        "observation/state": np.zeros((2, 8)),
        "prompt": ["go", "go"],
    } | {key.replace("_", "/", 1): value for key, value in changes.items()}


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38, -101])
def test_noise_that_is_not_normal_is_refused(policy, bad):
    noise = policy.sample_noise([0, 1])
    noise[1, 0, 3] = bad
    with pytest.raises(UserError, match=r"noise has values from .* expected a standard normal's") as error:
        policy.act(policy.prepare(sample()), noise)
    one_line(error)
    with pytest.raises(UserError, match=r"noise of shape \[2, 2, 7\], expected \[2, 2, 8\]"):
        policy.act(policy.prepare(sample()), policy.sample_noise([0, 1])[..., :7])


def test_answers_that_are_not_finite_are_an_error(policy):
    params = jax.tree.map(jnp.array, policy.params)
    params["action_out_proj"]["bias"] = params["action_out_proj"]["bias"].at[0].set(jnp.nan)
    broken = dataclasses.replace(policy, params=params)
    with pytest.raises(UserError, match="the model's actions are not finite"):
        broken.act(broken.prepare(sample()), broken.sample_noise([0, 1]))
    with pytest.raises(UserError, match="actions are not finite"):
        binarize_gripper(np.full((1, 2, 7), np.nan))


@pytest.mark.parametrize(
    "state",
    [
        np.ones((2, 8), bool),
        [[True] * 8] * 2,
        np.full((2, 8), "1"),
        np.ones((2, 8), complex),
        [[1.0] * 8, [None] * 8],
        [[1.0] * 8, [1.0]],
    ],
)
def test_states_that_are_no_numbers_are_refused(policy, state):
    with pytest.raises(UserError, match="observation/state is not an array of numbers") as error:
        policy.prepare(sample(observation_state=state))
    one_line(error)


def test_a_state_too_large_for_float32_is_refused_by_its_key():
    pipeline = make_pipeline(dataclasses.replace(CONFIG, state_limit=float("inf")), InputSpec(), stats_of())
    for largest in (1e300, 3e38):
        with pytest.raises(UserError, match=r"observation/state"):
            pipeline.inputs(sample(observation_state=np.full((2, 8), largest)))


def test_integers_are_numbers(policy):
    ints, floats = (policy.prepare(sample(observation_state=np.ones((2, 8), kind)))["state"] for kind in (int, float))
    np.testing.assert_array_equal(ints, floats)


@pytest.mark.parametrize("quantity", ["loss", "grad_norm", "param_norm"])
def test_what_is_not_finite_in_training_is_named_with_its_step(quantity):
    def step(state, batch):
        values = {"loss": 1.0, "grad_norm": 1.0, "param_norm": 1.0}
        return state, values | ({quantity: float("nan")} if batch == 2 else {})

    with pytest.raises(UserError, match=f"^the VLA's {quantity} is nan at step 43") as error:
        run_steps(step, Counted(40), iter(range(5)))
    one_line(error)


@dataclasses.dataclass
class Counted:
    step: int


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_parameters_that_are_not_finite_are_named(bad, dtype, tmp_path):
    params = {"a": {"w": np.ones((3, 4), np.float32)}, "b": {"w": np.ones(5, np.float32)}}
    params["b"]["w"][3] = bad
    write_params(tmp_path, params)
    with pytest.raises(UserError, match="b/w holds numbers that are not finite") as error:
        read_params(tmp_path, params, dtype=dtype)
    one_line(error)


def test_a_quantized_checkpoint_is_refused(tmp_path):
    params = {"a": np.ones((3, 4), np.int8)}
    write_params(tmp_path, params)
    with pytest.raises(UserError, match="a is of int8, expected floats") as error:
        read_params(tmp_path, params, dtype=jnp.float32)
    one_line(error)


def test_an_npz_of_paligemma_that_is_not_finite_is_named(tmp_path):
    expected = {"PaliGemma": {"img": {"w": np.zeros(3, np.float32)}}}
    np.savez(tmp_path / "p.npz", **{"params/img/w": np.array([1, np.nan, 1], np.float32)})
    with pytest.raises(UserError, match="params/img/w holds numbers that are not finite"):
        read_paligemma(tmp_path / "p.npz", expected)


# Of another robot --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [6, 8, 14, 32])
def test_a_server_that_answers_actions_of_another_width_is_refused(width, monkeypatch):
    class Client:
        def __init__(self, address, **_):
            self.address, self.metadata = address, {"robot": "other"}

        def infer(self, sample):
            return {"actions": np.zeros((10, width), np.float32)}

        def close(self):
            pass

    monkeypatch.setattr(backends, "PolicyClient", Client)
    backend = ServerBackend("somewhere:1", 1)
    with pytest.raises(UserError, match=rf"answers actions \[10, {width}\], expected finite ones of 7 numbers"):
        backend([{}], [0])
    backend.close()


def with_gripper(low: float, high: float) -> NormStats:
    random = np.random.default_rng(0)
    actions = random.uniform(-1, 1, (60, 7))
    actions[:, 6] = random.choice([low, high], 60)
    return NormStats(stats_of().state, statistics(actions))


def test_models_of_absolute_poses_or_another_gripper_are_not_evaluated(policy):
    absolute = dataclasses.replace(policy, spec=InputSpec(actions="absolute"))
    other = dataclasses.replace(policy, pipeline=make_pipeline(CONFIG, InputSpec(), with_gripper(0, 1)))
    for broken, text in ((absolute, "trained on absolute actions"), (other, "trained with a gripper from 0 to 1")):
        with pytest.raises(UserError, match=text):
            InProcessBackend(broken, "it")
        with pytest.raises(UserError, match=text):
            VlaActor(broken, "go", None, chunk=1)
    for gripper in ((-1, 1), (1, 1), (-1, -1), (0, 0)):
        pipeline = make_pipeline(CONFIG, InputSpec(), with_gripper(*gripper))
        InProcessBackend(dataclasses.replace(policy, pipeline=pipeline), "it").close()


def test_an_opened_model_knows_what_its_actions_are(tmp_path):
    config = dataclasses.replace(presets.tiny(), image_size=32)
    params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), expected_params(config))
    write_model(tmp_path / "m", config, InputSpec("quantile", "absolute", delta=True), stats_of(), params)
    with pytest.raises(UserError, match="trained on absolute actions"):
        InProcessBackend(open_policy(tmp_path / "m"), "it")


def test_absolute_actions_come_from_the_state_as_it_is_not_as_it_was_clipped():
    spec = InputSpec(actions="absolute", delta=True)
    pipeline = make_pipeline(dataclasses.replace(CONFIG, state_limit=5.0), spec, stats_of())
    state, actions = np.full((2, 8), 40.0), np.random.default_rng(0).uniform(-1, 1, (2, 2, 7)).astype(np.float32)
    inside = pipeline.inputs({**sample(observation_state=state), "actions": actions})
    assert inside["state"][:, :8].max() == 5
    np.testing.assert_allclose(pipeline.outputs(inside)["actions"], actions, atol=2e-5)
