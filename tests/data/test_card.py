"""The card of a dataset."""

import pytest
import tensorflow_datasets as tfds
from dataset_tools import write_rlds

from rlgen.core.errors import UserError
from rlgen.core.files import read_json
from rlgen.data.card import HEADINGS, read_card, verify_files, write_card

OWN = ("name", "format", "episodes", "steps", "picture_size", "shards", "descriptions")
CARD = {key: f"about {key}" for key in HEADINGS if key not in OWN} | {
    "episodes": 3,
    "success_rate": {"successes": 50, "trials": 50, "low": 0.929, "high": 1.0},
    "seeds": [0, 1, 2],
    "quality": {"noops": 0, "note": "a | b\nc"},
}


@pytest.fixture
def directory(tmp_path, dataset_episode_of):
    episodes = [dataset_episode_of(seed) for seed in range(3)]
    return write_rlds(tmp_path, "libero_goal_no_noops", episodes, size=16, description="", shards=2)


def test_the_card_holds_everything_and_hashes(directory):
    card = write_card(directory, CARD)
    assert read_json(directory / "dataset_card.json") == card
    assert {key: card[key] for key in CARD} == CARD
    assert len(card["shards"]) == 2 and all(len(digest) == 64 for digest in card["shards"].values())
    assert {"features.json", "episodes.json", "export.json"} <= set(card["descriptions"])
    assert (card["format"], card["steps"], card["picture_size"]) == ("rlds", 15, 16)
    assert read_card(directory) == card
    text = (directory / "DATASET.md").read_text()
    assert text.startswith("# libero_goal_no_noops 1.0.0\n")
    assert all(f"## {heading}" in text for heading in HEADINGS.values())
    assert "| low | 0.929 |" in text and "| note | a \\| b c |" in text
    assert tfds.builder_from_directory(directory).info.splits["train"].num_examples == 3


def test_altered_missing_and_added_files_are_found(directory):
    card = write_card(directory, CARD)
    assert verify_files(directory, card) == {}
    first, second = sorted(directory.glob("*tfrecord*"))
    first.write_bytes(first.read_bytes() + b"x")
    second.rename(directory / "other-train.tfrecord-00000-of-00001")
    (directory / "features.json").write_text("{}")
    assert verify_files(directory, card) == {
        "features.json": "altered",
        first.name: "altered",
        second.name: "missing",
        "other-train.tfrecord-00000-of-00001": "not on the card",
    }


def test_incomplete_and_wrong_cards_are_rejected(directory, tmp_path):
    with pytest.raises(ValueError, match="lacks licence"):
        write_card(directory, {key: value for key, value in CARD.items() if key != "licence"})
    with pytest.raises(ValueError, match=r"says episodes 4, .* says 3"):
        write_card(directory, CARD | {"episodes": 4})
    with pytest.raises(UserError, match=r"no readable export\.json"):
        write_card(tmp_path, CARD)
    with pytest.raises(UserError, match="no readable dataset_card"):
        read_card(directory)
