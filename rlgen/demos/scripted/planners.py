"""The state of a scene and the planners that read it, which episodes share."""

import numpy as np

from rlgen.demos.scripted.geometry import SceneState
from rlgen.demos.scripted.kinematics import Kinematics
from rlgen.demos.scripted.motion import Style
from rlgen.demos.scripted.planning.height_maps import HeightMapper
from rlgen.demos.scripted.planning.places import PlaceFinder
from rlgen.demos.scripted.skills import Habits, SkillContext
from rlgen.libero.scenes.scene import Scene


class Planners:
    """The state of a scene, and the planners that read it.

    Attributes:
      state: of the scene; whoever plans updates it first.
      kinematics, mapper, places: answers to questions about other states.
    """

    def __init__(self, scene: Scene):
        """Prepares the planners.

        Args:
          scene: the task's scene, with its fixtures where they stand in the episode.
        """
        self.state = SceneState(scene)
        self.kinematics, self.mapper = Kinematics(self.state), HeightMapper(self.state)
        self.places = PlaceFinder(self.state, self.mapper)

    def context(self, style: Style, random: np.random.Generator, habits: Habits) -> SkillContext:
        """Returns what the skills of an episode share.

        Args:
          style: manner of the episode.
          random: its source of variation.
          habits: grasps that it prefers.
        """
        return SkillContext(self.state, self.kinematics, self.mapper, self.places, style, random, habits)
