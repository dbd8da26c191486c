"""Drawing from recorded states: the same for any number of workers, and refused when it cannot be right."""

import mujoco
import numpy as np
import pytest

from rlgen.core.errors import UserError
from rlgen.libero.rendering.gl import OpenGLRenderer, find_gl
from rlgen.libero.rendering.renderer import render_episodes, render_states
from rlgen.libero.rendering.software import SoftwareRenderer

XML = """<mujoco><worldbody><light pos="0 0 3"/>
  <camera name="agentview" pos="0 -1 0" xyaxes="1 0 0 0 0 1"/><geom type="box" size="1 .1 1" pos="0 1 0"
  group="1" rgba=".3 .5 .2 1"/>
  <body><joint type="slide" axis="1 0 0"/><geom size=".1" group="1" rgba="1 0 0 1"/>
  <camera name="robot0_eye_in_hand" pos="0 0 .5"/></body></worldbody></mujoco>"""


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(XML)


@pytest.fixture(scope="module")
def states() -> np.ndarray:
    """Time, position and velocity of the ball as it moves from left to right."""
    count = 41
    return np.stack([np.arange(count) / 20, np.linspace(-0.4, 0.4, count), np.ones(count)], axis=1)


def test_images_follow_the_states_for_any_number_of_workers(model, states):
    view = SoftwareRenderer(model, size=32)
    expected = np.stack([view.draw(state[1:2]) for state in states])
    for workers in (1, 3):
        assert np.array_equal(render_states(model, states, size=32, workers=workers), expected)
    red = expected[:, 0, :, :, 0].astype(int) - expected[:, 0, :, :, 1] > 60
    columns = [np.nonzero(image)[1].mean() for image in red]
    assert (np.diff(columns) > 0).all()


def test_episodes_come_one_by_one_and_progress_counts_all(model, states):
    seen: list[int] = []
    drawn = list(render_episodes(model, [states, states[:5]], size=16, workers=2, on_frame=seen.append))
    assert [len(images) for images in drawn] == [41, 5]
    assert np.array_equal(drawn[0][:5], drawn[1])
    assert seen == sorted(seen) and seen[-1] == 46


def test_episodes_are_drawn_only_when_asked_for(model, states):
    asked = []

    def episodes():
        for number in range(3):
            asked.append(number)
            yield states[:2]

    drawn = render_episodes(model, episodes(), size=16)
    next(drawn)
    assert asked == [0]
    drawn.close()


def test_what_cannot_be_drawn_is_refused(model, states):
    for wrong in (states[:, :2], states[0], np.zeros((3, 9))):
        with pytest.raises(UserError, match="rows of 3 numbers"):
            render_states(model, wrong, size=16)
    with pytest.raises(UserError, match="fast or benchmark"):
        render_states(model, states, view="pretty")
    with pytest.raises(UserError, match="at least 1"):
        render_states(model, states, workers=0)
    assert render_states(model, states[:0], size=16).shape == (0, 2, 16, 16, 3)


def test_an_error_while_drawing_reaches_the_caller(model, states, monkeypatch):
    def fail(self, qpos):
        raise RuntimeError("lens cap on")

    monkeypatch.setattr(SoftwareRenderer, "draw", fail)
    with pytest.raises(RuntimeError, match="lens cap"):
        render_states(model, states, size=16, workers=2)


def test_benchmark_view_is_drawn_by_processes(model, states):
    if find_gl() == "none":
        with pytest.raises(UserError, match="no GL library"):
            render_states(model, states, view="benchmark")
        return
    drawn = render_states(model, states[:20], view="benchmark", size=32, workers=1)
    with OpenGLRenderer(model, size=32) as view:
        expected = np.stack([view.draw(state[1:2]) for state in states[:20]])
    assert np.array_equal(drawn, expected)
