"""Numbers in settings: every one has a range, and what is outside is refused by name, from wherever it comes."""

import dataclasses
import json
import math
import re
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest

from rlgen.configs.ranges import (
    LARGEST,
    Count,
    NumberError,
    PositiveFraction,
    Range,
    Settings,
    choice_fields,
    number_fields,
    numbers_of,
)
from rlgen.configs.schema import Config, PPOConfig
from rlgen.configs.stored import from_json, to_json
from rlgen.core.errors import UserError
from rlgen.training.run import create_run, open_run
from rlgen.vla.training.config import FineTune, TrainConfig


def classes(kind: type) -> list[type]:
    """The class and those of its fields that are settings as well."""
    hints = get_type_hints(kind, include_extras=True).values()
    parts = [get_args(hint)[0] if get_origin(hint) is Annotated else hint for hint in hints]
    return [kind] + [one for part in parts if dataclasses.is_dataclass(part) for one in classes(part)]


ALL = list(dict.fromkeys([*classes(Config), *classes(FineTune)]))


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_number_of_every_setting_has_a_range(kind):
    assert issubclass(kind, Settings)
    for name, annotation in number_fields(kind).items():
        assert all(allowed is not None for _, allowed in numbers_of(annotation)), f"{kind.__name__}.{name}"


@dataclasses.dataclass(frozen=True)
class Example(Settings):
    count: Count = 1
    share: PositiveFraction | None = None
    sizes: tuple[Count, ...] = ()
    pair: tuple[PositiveFraction, PositiveFraction] | None = None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "count 0: expected 1 or more"),
        ({"count": LARGEST + 1}, f"count {LARGEST + 1}: expected 1 to {LARGEST}"),
        ({"count": 2.0}, "count 2.0: expected a whole number, 1 or more"),
        ({"count": True}, "count True: expected a whole number, 1 or more"),
        ({"count": "2"}, "count 2: expected a whole number, 1 or more"),
        ({"count": None}, "count None: expected a whole number, 1 or more"),
        ({"share": 0.0}, "share 0.0: expected more than 0, at most 1"),
        ({"share": math.nan}, "share nan: expected more than 0, at most 1"),
        ({"share": -math.inf}, "share -inf: expected more than 0, at most 1"),
        ({"share": "x"}, "share x: expected a number, more than 0, at most 1"),
        ({"sizes": (3, 0)}, "sizes 0: expected 1 or more"),
        ({"sizes": 3}, "sizes 3: expected several numbers"),
        ({"pair": (0.5,)}, "pair 0.5: expected 2 numbers"),
        ({"pair": (0.5, 2)}, "pair 2: expected more than 0, at most 1"),
    ],
)
def test_what_is_outside_is_refused_by_name_and_range(values, message):
    with pytest.raises(NumberError) as caught:
        Example(**values)
    assert str(caught.value) == message


def test_what_is_inside_is_taken():
    Example(count=LARGEST, share=1, sizes=(1, 2), pair=(0.1, 1.0))
    Example()
    assert Range(0, 1, below=True).has(0) and not Range(0, 1, below=True).has(1.0)


@pytest.mark.parametrize("wrong", [-1, math.nan, math.inf, 1e30, "many", None, [1], {"a": 1}, True])
def test_a_stored_configuration_with_a_wrong_number_is_refused_in_one_line(tmp_path, wrong):
    run = create_run(tmp_path / "run", Config(), {"kind": "placeholder", "path": "x", "label": "x"})
    record = json.loads((run.folder / "run.json").read_text())
    for section, name in (("ppo", "batch"), ("ppo", "gamma"), ("bc", "learning_rate"), ("collect", "episodes")):
        changed = json.loads(json.dumps(record))
        changed["config"][section][name] = wrong
        (run.folder / "run.json").write_text(json.dumps(changed))
        with pytest.raises(
            UserError, match=rf"run\.json cannot be read: {section}\.{name.replace('_', '-')}"
        ) as caught:
            open_run(run.folder)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("ppo",), 5),
        (("policy", "critic"), []),
        (("task",), 5),
        (("policy", "network"), "transformer"),
        (("policy", "network"), ["unet"]),
        (("export", "renderer"), None),
        (("ppo", "normalize_advantage"), "yes"),
        (("demos", "file"), 5),
    ],
)
def test_a_stored_value_of_another_kind_is_named(path, wrong):
    value = json.loads(json.dumps(to_json(Config())))
    section = value
    for name in path[:-1]:
        section = section[name]
    section[path[-1]] = wrong
    with pytest.raises(UserError, match=rf"config\.{'.'.join(path)} is"):
        from_json(value)


def test_numbers_that_contradict_each_other_are_refused():
    with pytest.raises(UserError, match=r"ppo\.advantage-quantiles 0\.9 0\.1: expected two that rise"):
        PPOConfig(advantage_quantiles=(0.9, 0.1))
    with pytest.raises(UserError, match=r"policy\.diffusion\.denoising-steps 200: expected at most 100"):
        value = to_json(Config())
        value["policy"]["diffusion"]["denoising_steps"] = 200
        from_json(value)
    with pytest.raises(UserError, match="it does not divide the batch of 32"):
        TrainConfig(accumulate=5)
    with pytest.raises(UserError, match="--process 2: expected 0 to 1"):
        FineTune(processes=2, process=2, coordinator="a:1")


CHOICES = [(kind, name) for kind in ALL for name in choice_fields(kind)]


@pytest.mark.parametrize(("kind", "name"), CHOICES, ids=lambda value: getattr(value, "__name__", value))
def test_a_word_that_is_none_of_a_settings_is_one_line_that_names_them(kind, name):
    setting = re.escape(f"{kind.section}{name}".replace("_", "-"))
    with pytest.raises(UserError, match=rf"^{setting} 'neither': expected .+") as raised:
        kind(**{name: "neither"})
    assert "\n" not in str(raised.value)
    for choice in choice_fields(kind)[name]:
        assert repr(choice) in str(raised.value)


def test_there_are_words_to_choose_from():
    assert {("PolicyConfig", "network"), ("DiffusionConfig", "act_sampler")} <= {(k.__name__, n) for k, n in CHOICES}
