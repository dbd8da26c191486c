import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlgen.libero.envs.gymnasium import LiberoEnv, LiberoVectorEnv


@pytest.mark.parametrize("options", [{}, {"chunk": 4, "renderer": "fast", "image_size": 32, "physics": "exact"}])
def test_gymnasiums_own_checker_passes(placeholder_scene, options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # The checker warns of spaces without bounds, as those of distances and angles.
        warnings.filterwarnings("ignore", message=r".*(minimum|maximum) value is (-)?infinity.*")
        env = LiberoEnv(placeholder_scene, **options)
        check_env(env, skip_render_check=True)
    env.close()


def test_the_vector_environment_equals_single_ones_side_by_side(placeholder_scene):
    """Compared with Gymnasium's own `SyncVectorEnv`, over the ends of episodes."""
    options = {"horizon": 5, "chunk": 2}
    ours = LiberoVectorEnv(placeholder_scene, 3, **options)
    theirs = SyncVectorEnv(
        [lambda: LiberoEnv(placeholder_scene, **options)] * 3, autoreset_mode=AutoresetMode.SAME_STEP
    )
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
    assert data_equivalence(ours.reset(seed=3)[0], theirs.reset(seed=3)[0], exact=True)
    ours.action_space.seed(0)
    ends = 0
    for _ in range(8):
        actions = ours.action_space.sample()
        mine, other = ours.step(actions), theirs.step(actions)
        assert data_equivalence(mine[0], other[0], exact=True)
        for left, right in zip(mine[1:4], other[1:4], strict=True):
            np.testing.assert_array_equal(left, right)
        assert mine[4].keys() == other[4].keys()
        for row in np.flatnonzero(mine[3]):
            assert data_equivalence(mine[4]["final_obs"][row], other[4]["final_obs"][row], exact=True)
        ends += int(mine[3].sum())
    assert ends == 6
    ours.close()
    theirs.close()


def test_initial_states_can_be_chosen(placeholder_scene):
    env = LiberoVectorEnv(placeholder_scene, 2, split="heldout")
    first, _ = env.reset(options={"initial": [7, 8]})
    again, _ = env.reset(options={"initial": [8, 7]})
    np.testing.assert_array_equal(first["vector"], again["vector"][::-1])
    env.close()
