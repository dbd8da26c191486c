"""Datasets of every format are the same to training."""

import export_of_noise
import numpy as np
import pytest

from rlgen.core.errors import UserError
from rlgen.data.frames import open_frames, read_frames
from rlgen.vla.data.spec import read_action_semantics


def test_array_record_and_rlds_give_the_same_steps(tmp_path):
    # Another size than the stored one: the formats are mixed in one batch.
    index, size = np.array([0, 2, 7, 26]), 2 * export_of_noise.SIZE
    frames = {
        kind: open_frames(export_of_noise.export(kind, tmp_path / kind), size=size) for kind in ("rlds", "array_record")
    }
    one, other = (read_frames(source, index, horizon=2) for source in frames.values())
    assert set(one) == set(other) and one["prompt"] == other["prompt"] == ["push"] * 4
    assert one["image"].shape == (4, size, size, 3)
    for name in set(one) - {"prompt"}:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    # The second and the last step are their episodes' last: what follows is padding.
    assert one["chunk_mask"].tolist() == [[True, True], [True, False], [True, True], [True, False]]


def test_a_folder_without_a_dataset_is_refused(tmp_path):
    with pytest.raises(UserError, match="no dataset there"):
        open_frames(tmp_path, size=16)
    with pytest.raises(UserError, match="no such folder"):
        read_action_semantics(tmp_path / "none")
