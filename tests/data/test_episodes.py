"""Recorded episodes come back as they were, and damage is reported."""

import errno
import hashlib
import json
import os
from dataclasses import replace

import numpy as np
import pytest

from rlgen.core.errors import UserError
from rlgen.data.episode import check_episode, episode_digest, load_episode, load_episodes, save_episode


def test_an_episode_comes_back_to_the_last_bit(tmp_path, episode_of, same):
    episode = episode_of(3, seed=2**63 + 5, prompt="señal | 数", split="train", success=False)
    episode = replace(episode, actions=episode.actions.astype(np.float32))
    save_episode(tmp_path / "a.npz", episode)
    same(load_episode(tmp_path / "a.npz"), episode)


def test_drawn_fixtures_come_back_and_older_versions_do_not_read_without_them(tmp_path, episode_of, fixtures_of, same):
    drawn, plain = episode_of(3, fixtures=fixtures_of()), episode_of(3)
    save_episode(tmp_path / "drawn.npz", drawn)
    save_episode(tmp_path / "plain.npz", plain)
    same(load_episode(tmp_path / "drawn.npz"), drawn)
    assert load_episode(tmp_path / "plain.npz").fixtures is None
    for name, format in (("drawn", 2), ("plain", 1)):
        with np.load(tmp_path / f"{name}.npz") as file:
            assert json.loads(file["header"].tobytes())["format"] == format
    assert episode_digest(drawn) != episode_digest(plain)


def test_the_digest_of_an_episode_without_drawn_fixtures_is_the_one_stored_in_files_of_before(episode_of):
    total = hashlib.sha256()
    episode = episode_of(3)
    names = ("task", "prompt", "source", "initial_index", "split", "seed", "initial_state", "states", "actions")
    for name in (*names, "rewards", "success"):
        value = np.asarray(getattr(episode, name))
        total.update(f"{name} {value.dtype.str} {value.shape}".encode() + value.tobytes())
    assert episode_digest(episode) == total.hexdigest()


def test_the_same_episode_gives_the_same_bytes(tmp_path, episode_of):
    save_episode(tmp_path / "a.npz", episode_of(1))
    save_episode(tmp_path / "b.npz", episode_of(1))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_folder_is_read_in_the_order_of_names(tmp_path, episode_of):
    for name, seed in (("0010", 10), ("0002", 2), ("0001", 1)):
        save_episode(tmp_path / f"{name}.npz", episode_of(seed))
    (tmp_path / ".0003.npz.x.part").write_bytes(b"left by a killed run")
    assert [episode.initial_index for episode in load_episodes(tmp_path)] == [1, 2, 10]


def test_every_flipped_bit_is_noticed_or_harmless(tmp_path, episode_of, same):
    path = tmp_path / "a.npz"
    save_episode(path, episode_of(1))
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    noticed = 0
    for position in random.integers(len(whole), size=150):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        try:
            same(load_episode(path), episode_of(1))
        except UserError as error:
            noticed += 1
            assert str(path) in str(error) and "\n" not in str(error)
    assert noticed > 100


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 half an archive"])
def test_foreign_files_are_named(tmp_path, content):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.npz"):
        load_episode(path)


def test_a_truncated_file_is_named(tmp_path, episode_of):
    path = tmp_path / "x.npz"
    save_episode(path, episode_of())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"x\.npz"):
        load_episode(path)


def test_pickles_are_rejected(tmp_path, episode_of):
    path = tmp_path / "x.npz"
    arrays = {name: getattr(episode_of(), name) for name in ("initial_state", "states", "actions", "rewards")}
    np.savez(path, header=np.array([{"format": 1}], dtype=object), **arrays)
    with pytest.raises(UserError, match="not a readable episode"):
        load_episode(path)


def test_a_missing_file_and_a_missing_folder_are_named(tmp_path):
    with pytest.raises(UserError, match="no such episode"):
        load_episode(tmp_path / "none.npz")
    with pytest.raises(UserError, match="no such folder"):
        load_episodes(tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"actions": np.full((12, 7), 1.5)}, r"reach 1\.5"),
        ({"actions": np.full((12, 7), np.nan)}, "not finite at step 0"),
        ({"actions": np.zeros((12, 6))}, r"expected \(T, 7\)"),
        ({"actions": np.zeros((0, 7))}, r"expected \(T, 7\)"),
        ({"states": np.zeros((12, 11))}, r"expected \(13, D\)"),
        ({"states": np.full((13, 11), np.inf)}, "not finite"),
        ({"initial_state": np.zeros(3)}, "initial_state"),
        ({"rewards": np.zeros(3)}, "rewards"),
        ({"fixtures": np.zeros((2, 6))}, r"expected \(F, 7\)"),
        ({"fixtures": np.zeros((0, 7))}, r"expected \(F, 7\)"),
        ({"fixtures": np.zeros((2, 7))}, "no positions and unit quaternions"),
        ({"fixtures": np.full((2, 7), np.nan)}, "no positions and unit quaternions"),
    ],
)
def test_malformed_episodes_are_not_written(tmp_path, episode_of, change, message):
    path = tmp_path / "x.npz"
    save_episode(path, episode_of())
    before = path.read_bytes()
    with pytest.raises(UserError, match=message):
        save_episode(path, episode_of(**change))
    assert path.read_bytes() == before


def test_only_the_last_state_may_be_unknown(episode_of):
    episode = episode_of()
    states = episode.states.copy()
    states[-1] = np.nan
    check_episode(replace(episode, states=states), "x")
    states[-2] = np.nan
    with pytest.raises(UserError, match="not finite"):
        check_episode(replace(episode, states=states), "x")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_an_error_of_the_disk_is_one_line_and_loses_nothing(tmp_path, episode_of, monkeypatch, code):
    path = tmp_path / "x.npz"
    save_episode(path, episode_of(1))
    before = path.read_bytes()

    def fail(handle):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match=os.strerror(code)) as caught:
        save_episode(path, episode_of(2))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
