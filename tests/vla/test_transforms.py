import dataclasses
import json

import numpy as np
import pytest
from vla.toy import CONFIG

from rlgen.core.errors import UserError
from rlgen.data.images import rotate_180
from rlgen.data.resize import resize_with_pad
from rlgen.vla.data import spec
from rlgen.vla.data.normalize import LIBERO_DELTA, NormStats, Statistics, statistics
from rlgen.vla.data.spec import InputSpec, check_dataset, make_pipeline, released_spec
from rlgen.vla.data.transforms import STATE, DeltaActions, Normalize, Pad, Repack
from rlgen.vla.model import presets
from rlgen.vla.serving.actor import legal_actions, robot_sample

THREE = dataclasses.replace(CONFIG, cameras=presets.pi0().cameras, action_size=12, horizon=5)


def stats_of(seed: int = 0) -> NormStats:
    random = np.random.default_rng(seed)
    return NormStats(statistics(random.normal(1, 2, (50, 8))), statistics(random.normal(-1, 0.5, (50, 7))))


def observation(batch: tuple[int, ...] = (), side: tuple[int, int] = (40, 64)):
    random = np.random.default_rng(3)
    return {
        "observation/image": random.integers(0, 255, (*batch, *side, 3), dtype=np.uint8),
        "observation/wrist_image": random.integers(0, 255, (*batch, *side, 3), dtype=np.uint8),
        "observation/state": random.normal(size=(*batch, 8)),
        "prompt": ["pick it up"] * batch[0] if batch else "pick it up",
    }


@pytest.mark.parametrize("kind", ["zscore", "quantile"])
@pytest.mark.parametrize("delta", [True, False])
def test_actions_survive_the_way_to_the_model_and_back(kind, delta):
    pipeline = make_pipeline(THREE, InputSpec(kind, "absolute", delta), stats_of())
    actions = np.random.default_rng(0).uniform(-1, 1, (2, 5, 7)).astype(np.float32)
    inside = pipeline.inputs({**observation((2,)), "actions": actions})
    assert inside["actions"].shape == (2, 5, 12) and not inside["actions"][..., 7:].any()
    back = pipeline.outputs({"state": inside["state"], "actions": inside["actions"]})
    np.testing.assert_allclose(back["actions"], actions, atol=1e-5)
    assert ("delta actions" in pipeline.names) == delta


def test_transforms_run_in_this_order():
    assert make_pipeline(THREE, InputSpec(delta=True, actions="absolute"), stats_of()).names == [
        "repack", "delta actions", "normalize", "resize", "tokenize", "pad",
    ]  # fmt: skip


def test_one_sample_and_a_batch_of_it_are_the_same():
    pipeline, one = make_pipeline(THREE, InputSpec(), stats_of()), observation()
    batch = {key: [value] * 3 if key == "prompt" else np.stack([value] * 3) for key, value in one.items()}
    alone, together = pipeline.inputs(one), pipeline.inputs(batch)
    for key in ("state", "tokens", "token_mask"):
        np.testing.assert_array_equal(together[key], np.stack([alone[key]] * 3))
    for camera in THREE.cameras:
        np.testing.assert_array_equal(together["images"][camera][1], alone["images"][camera])


def test_a_camera_that_the_robot_lacks_is_black_and_masked():
    inside = make_pipeline(THREE, InputSpec(), stats_of()).inputs(observation())
    assert list(inside["images"]) == list(THREE.cameras)
    masks = [bool(inside["image_mask"][name]) for name in THREE.cameras]
    assert masks == [True, True, False] and not inside["images"]["right_wrist_0_rgb"].any()


def test_a_camera_that_the_model_lacks_is_left_out():
    one = dataclasses.replace(CONFIG, cameras=("base_0_rgb",))
    assert list(make_pipeline(one, InputSpec(), stats_of()).inputs(observation())["images"]) == ["base_0_rgb"]


def test_the_state_enters_the_prompt_normalized_and_not_padded():
    config = dataclasses.replace(THREE, state_in_prompt=True, prompt_length=80)
    texts = []
    pipeline = make_pipeline(
        config, InputSpec("quantile"), stats_of(), encode=lambda text, bos: texts.append(text) or [5]
    )
    pipeline.inputs(observation())
    [text] = texts
    assert text.startswith("Task: pick it up, State: ") and text.endswith(";\nAction: ")
    assert len(text.split("State: ")[1].split(";")[0].split()) == 8


@pytest.mark.parametrize(
    "change, message",
    [
        ({"observation/image": None}, "no 'observation/image'"),
        ({"observation/image": np.zeros((4, 4), np.uint8)}, r"observation/image is uint8 \[4, 4\]"),
        ({"observation/image": np.zeros((4, 4, 3), np.int32)}, "observation/image is int32"),
        ({"observation/state": "abc"}, "observation/state is not an array of numbers"),
        ({"observation/state": np.full(8, np.nan)}, "not a vector of finite numbers"),
        ({"observation/state": np.zeros(5)}, "state has 5 dimensions, the model was trained with 8"),
        ({"prompt": 3}, "prompt is 3, expected a text"),
        ({"prompt": ["a", "b"]}, "prompt is a list of 2"),
        ({"prompt": ["a" * 9, 1]}, "prompt is a list of 2"),
        ({"prompt": b"abc"}, "prompt is b'abc'"),
        ({"prompt": "a" * 5000}, "prompt 'aaa.* has 5000 characters, expected at most 4096"),
        ({"prompt": np.array(["a" * 5000])}, "prompt 'aaa.* has 5000 characters"),
        ({"observation/image": [[[0, 0, 0]] * 4] * 4}, "observation/image is a list of 4, expected an image"),
        ({"observation/image": "a" * 99}, "observation/image is 'aaa"),
        ({"observation/wrist_image": np.zeros((1, 5000, 3), np.uint8)}, "wrist_image has 1 x 5000 pixels, .* 4096"),
        (
            {"observation/image": np.full((4, 4, 3), 255.0)},
            "image has values from 255 to 255, expected uint8, or floats",
        ),
        ({"observation/image": np.linspace(-1, 1, 48).reshape(4, 4, 3)}, "values from -1 to 1"),
        ({"observation/image": np.full((4, 4, 3), np.nan, np.float32)}, "values from nan to nan"),
        ({"observation/image": np.r_[np.inf, np.zeros(47)].reshape(4, 4, 3)}, "values from 0 to inf"),
        ({"observation/state": ["1"] * 8}, "observation/state is not an array of numbers but a list of 8"),
        ({"observation/state": np.array(["1"] * 8)}, "observation/state is not an array of numbers but <U1"),
        ({"observation/state": np.full(8, 1e300)}, "not a vector of finite numbers"),
        ({"observation/state": [10**400] * 8}, "observation/state is not an array of numbers"),
        ({"observation/state": [[0.0], [0.0, 1.0]]}, "observation/state is not an array of numbers"),
        ({"observation/image": np.zeros((2, 4, 4, 3), np.uint8)}, "base_0_rgb has shape"),
    ],
)
def test_what_the_model_cannot_read_is_refused_by_its_key(change, message):
    sample = {key: value for key, value in {**observation(), **change}.items() if value is not None}
    with pytest.raises(UserError, match=message) as error:
        make_pipeline(THREE, InputSpec(), stats_of()).inputs(sample)
    assert "\n" not in str(error.value)


def test_lists_of_numbers_and_text_scalars_are_understood():
    sample, repack = observation(), Repack(CONFIG.cameras, 7)
    packed = repack.inputs({**sample, STATE: sample[STATE].tolist(), "prompt": np.array("pick it up")})
    np.testing.assert_array_equal(packed["state"], repack.inputs(sample)["state"])
    assert packed["prompt"] == "pick it up"
    two = {key: np.stack([value] * 2) for key, value in sample.items()}
    assert repack.inputs(two)["prompt"] == ["pick it up"] * 2


def test_an_image_of_one_row_is_resized_to_one_row():
    assert resize_with_pad(np.full((1, 900, 3), 255, np.uint8), 8).any()


def test_images_of_floats_and_of_channels_first_are_understood():
    sample = observation(side=(8, 8))
    floats = sample["observation/image"].astype(np.float32) / 255
    repack = Repack(CONFIG.cameras, 7)
    for other in (floats, np.moveaxis(sample["observation/image"], -1, 0)):
        packed = repack.inputs({**sample, "observation/image": other})["images"]["base_0_rgb"]
        assert np.abs(packed.astype(int) - sample["observation/image"]).max() <= 1


def test_resizing_pads_to_a_square_in_the_middle():
    white = np.full((1, 8, 4, 3), 255, np.uint8)
    out = resize_with_pad(white, 8)[0, :, :, 0]
    assert (out[:, 2:6] == 255).all() and (out[:, :2] == 0).all() and (out[:, 6:] == 0).all()


def test_raw_images_are_rotated_for_the_model():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert rotate_180(image)[0, 0].tolist() == image[1, 1].tolist()
    np.testing.assert_array_equal(rotate_180(rotate_180(image)), image)
    images = np.stack([image, image + 100])
    named = robot_sample(np.zeros(8), images, "x")
    np.testing.assert_array_equal(named["observation/wrist_image"], rotate_180(image + 100))


def test_actions_for_the_robot_are_legal_whatever_the_model_says():
    out = legal_actions(np.array([[[9.0, -9, 0.5, 0, 0, 0, -0.1]]]))
    np.testing.assert_array_equal(out, [[[1, -1, 0.5, 0, 0, 0, -1]]])


def test_a_state_far_from_all_data_is_limited():
    narrow = Statistics(np.zeros(8), np.full(8, 1e-4), np.zeros(8), np.zeros(8))
    limited = Normalize(NormStats(narrow, narrow), "zscore", 5.0).inputs({"state": np.full((1, 8), -0.1)})
    assert limited["state"].tolist() == [[-5.0] * 8]


def test_delta_actions_leave_the_gripper():
    actions, state = np.ones((1, 2, 7)), np.full((1, 8), 0.25)
    out = DeltaActions(LIBERO_DELTA).inputs({"actions": actions, "state": state})["actions"]
    assert (out[..., :6] == 0.75).all() and (out[..., 6] == 1).all()


def test_more_dimensions_than_the_model_has_are_refused():
    with pytest.raises(ValueError, match="8 dimensions do not fit"):
        Pad(7, 8).inputs({"state": np.zeros(8)})


def test_a_dataset_must_say_what_its_actions_are_and_agree():
    check_dataset(InputSpec(), "relative", "d")
    check_dataset(InputSpec(actions="absolute", delta=True), "absolute", "d")
    with pytest.raises(UserError, match="does not say what its actions are"):
        check_dataset(InputSpec(), None, "d")
    with pytest.raises(UserError, match="d are absolute, the model's are relative"):
        check_dataset(InputSpec(), "absolute", "d")


def test_subtracting_the_state_twice_needs_to_be_asked_for():
    released = released_spec("pi0_libero", "words")
    assert released.is_double_delta and released.normalization == "zscore"
    with pytest.raises(UserError, match="once more"):
        check_dataset(released, "relative", "d")
    check_dataset(released, "relative", "d", double_delta=True)
    assert not released_spec("pi05_libero", "words").delta
    assert released_spec("pi05_libero", "words").normalization == "quantile"


@pytest.mark.parametrize("name", sorted(presets.PRESETS))
def test_descriptions_survive_json(name):
    config = presets.preset(name)
    value = json.loads(json.dumps(spec.to_json(config, InputSpec("quantile", delta=True)), allow_nan=False))
    assert spec.from_json(value) == (config, InputSpec("quantile", delta=True))


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: value.pop("model"),
        lambda value: value["model"].pop("vision"),
        lambda value: value["model"].update(family="pi7"),
        lambda value: value.update(format=2),
    ],
)
def test_damaged_descriptions_are_refused(damage):
    value = spec.to_json(CONFIG, InputSpec())
    damage(value)
    with pytest.raises(UserError, match="the model's description"):
        spec.from_json(value)


def test_an_unknown_model_is_refused_with_those_that_there_are():
    with pytest.raises(UserError, match=r"unknown model 'pi9', expected one of pi0, pi05"):
        presets.preset("pi9")


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: value.clear(),
        lambda value: value["norm_stats"].pop("actions"),
        lambda value: value["norm_stats"]["state"].update(mean=[float("nan")] * 8),
        lambda value: value["norm_stats"]["state"].update(std=[1.0]),
        lambda value: value["norm_stats"].update(state=3),
    ],
)
def test_damaged_statistics_are_refused_in_a_line(damage):
    value = stats_of().to_json()
    damage(value)
    with pytest.raises(UserError, match="normalization statistics") as error:
        NormStats.from_json(value)
    assert "\n" not in str(error.value)
