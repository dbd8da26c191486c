"""All constants of a scene that the functions of this room need."""

from flax import struct

from rlgen.libero.scenes.scene import Scene
from rlgen.libero.warp.controller import ControllerConstants, make_controller_constants
from rlgen.libero.warp.goals import GoalConstants, make_goal_constants
from rlgen.libero.warp.kinematics import Tree, make_tree
from rlgen.libero.warp.observation import RobotAddresses, make_robot_addresses


@struct.dataclass
class SceneConstants:
    """Constants of a scene, each for the functions of its module; a pytree."""

    controller: ControllerConstants
    tree: Tree
    robot: RobotAddresses
    goal: GoalConstants


def make_constants(scene: Scene, *, atoms: int | None = None, joints: int | None = None) -> SceneConstants:
    """Returns the constants of a scene.

    Args:
      scene: the task's scene, under the version of MuJoCo whose indices are meant.
      atoms: pad the goal to so many atoms.
      joints: pad its atoms to so many joints.

    Raises:
      UserError: the scene's robot or bodies are of kinds that no task of the benchmark has.
      ValueError: the goal has more atoms or joints than that.
    """
    return SceneConstants(
        make_controller_constants(scene),
        make_tree(scene),
        make_robot_addresses(scene),
        make_goal_constants(scene.goal, scene.model.ngeom, atoms=atoms, joints=joints),
    )
