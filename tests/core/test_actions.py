"""One rule for the gripper, the environment's: its sign, and with zero what it was."""

import numpy as np
import pytest

from rlgen.core.actions import ACTION_SIZE, CLOSE, OPEN, binarize_gripper

TINY = np.finfo(np.float32).tiny


def actions(*commands: float) -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(len(commands), ACTION_SIZE)).astype(np.float32)
    rows[:, -1] = commands
    return rows


@pytest.mark.parametrize(("command", "expected"), [(-1, OPEN), (-TINY, OPEN), (TINY, CLOSE), (1, CLOSE), (0.3, CLOSE)])
def test_the_sign_alone_counts(command, expected):
    given = actions(command)
    binary = binarize_gripper(given)
    assert binary[0, -1] == expected and binary.dtype == np.float32
    np.testing.assert_array_equal(binary[:, :-1], given[:, :-1])


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_zero_repeats_the_command_before_and_opens_at_the_beginning(zero):
    given = actions(zero, zero, 1, zero, zero, -TINY, zero, TINY, zero)
    np.testing.assert_array_equal(binarize_gripper(given)[:, -1], [-1, -1, 1, 1, 1, -1, -1, 1, 1])


def test_rows_of_a_batch_are_sequences_of_their_own():
    given = np.stack([actions(1, 0), actions(-1, 0), actions(0, 0)])
    np.testing.assert_array_equal(binarize_gripper(given)[..., -1], [[1, 1], [-1, -1], [-1, -1]])
