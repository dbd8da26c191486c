"""How the package is built stays within these numbers; `house_counts.py` prints all of them."""

from statistics import median

import pytest
from house_counts import ROOT, House, banned_identifiers, doubles, ppo_files, without_args, wrong_beginnings


@pytest.fixture(scope="module")
def house() -> House:
    return House(ROOT)


def test_files_are_long_enough_to_be_read_alone_and_short_enough_to_be_read(house):
    lines = house.lines()
    assert median(lines) >= 120
    assert sum(length > 350 for length in lines) <= 6
    assert max(lines) < 500


def test_folders_have_at_most_twelve_files(house):
    folders: dict = {}
    for path in house.files.values():
        if path.name != "__init__.py":
            folders.setdefault(path.parent, []).append(path.name)
    assert {folder.name: len(names) for folder, names in folders.items() if len(names) > 12} == {}


def test_twelve_files_lead_from_the_command_to_the_loss_of_ppo(house):
    files = ppo_files(house, ["rl"])
    assert {"rlgen.cli.expert", "rlgen.pipeline.ppo", "rlgen.rl.ppo", "rlgen.rl.losses"} <= set(files)
    assert len(files) <= 12
    assert len(ppo_files(house, ["rl", "policies", "diffusion"])) <= 18


def test_no_docstring_begins_with_a_question(house):
    assert wrong_beginnings(house) == []


def test_public_functions_of_three_parameters_say_what_these_are(house):
    missing, _ = without_args(house)
    assert [f"{function.place} {function.name}" for function in missing] == []


def test_no_identifier_has_a_word_that_has_a_better_one(house):
    assert banned_identifiers(house) == {}


def test_no_two_classes_have_one_name(house):
    assert doubles(house) == {}


def test_annotations_are_for_users_as_well():
    assert (ROOT / "rlgen" / "py.typed").is_file()
