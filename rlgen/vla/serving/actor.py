"""A trained model as an actor in our environments, and the conversions between them."""

import jax
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from rlgen.core.actions import binarize_gripper
from rlgen.core.errors import UserError
from rlgen.core.types import LIBERO, Observation, Robot
from rlgen.data.images import rotate_180
from rlgen.libero.rendering.pool import RenderPool
from rlgen.vla.data.spec import has_other_gripper
from rlgen.vla.data.transforms import PROMPT, STATE, Normalize, Sample
from rlgen.vla.serving.policy import VlaPolicy

CAMERA_KEYS = ("observation/image", "observation/wrist_image")


class VlaActor:
    """An actor that renders images of each environment and samples a chunk of actions from a model.

    Args:
      policy: the model and its transforms.
      prompt: the instruction.
      renderers: of the environments' scene, with images of the size that the model was trained on.
      chunk: actions to execute of each chunk, at most the model's horizon.
    """

    def __init__(self, policy: VlaPolicy, prompt: str, renderers: RenderPool, *, chunk: int = 8):
        check_for_environment(policy, "the model")
        if not 1 <= chunk <= policy.config.horizon:
            raise ValueError(f"chunk {chunk} must lie in 1..{policy.config.horizon}, the model's horizon")
        self._policy, self._prompt, self._renderers, self._chunk = policy, prompt, renderers, chunk
        self._seed = self._calls = 0

    def reset(self, seeds: Int[np.ndarray, " N"]) -> None:
        """Starts new episodes; the first seed decides the noise of all."""
        self._seed, self._calls = int(seeds[0]) & 0xFFFFFFFF, 0

    def __call__(self, observation: Observation) -> Float[np.ndarray, "N H 7"]:
        """Returns the next actions of each environment."""
        key = jax.random.fold_in(jax.random.PRNGKey(self._seed), self._calls)
        self._calls += 1
        images = self._renderers.render(observation.physics, fixtures=observation.fixtures)
        return sample_chunks(self._policy, observation, images, self._prompt, key)[:, : self._chunk]


def sample_chunks(
    policy: VlaPolicy, observation: Observation, images: UInt8[np.ndarray, "N cameras h w 3"], prompt: str, key: Array
) -> Float[np.ndarray, "N H 7"]:
    """Samples a chunk of actions for each environment.

    Args:
      policy: the model and its transforms.
      observation: of N environments; only the robot's state is used.
      images: raw, of the fixed camera and of the one at the gripper.
      prompt: the instruction.
      key: of the noise.

    Returns:
      Actions in [-1, 1], the gripper -1 (open) or +1 (close).
    """
    config = policy.config
    noise = np.asarray(jax.random.normal(key, (len(images), config.horizon, config.action_size)))
    sample = robot_sample(observation.robot.vla_state, images, [prompt] * len(images))
    return legal_actions(policy.act(policy.prepare(sample), noise))


def robot_sample(
    state: Float[np.ndarray, "*B 8"], images: UInt8[np.ndarray, "*B cameras h w 3"], prompt: str | list[str]
) -> Sample:
    """Returns an observation by the keys of openpi's LIBERO clients.

    Args:
      state: end-effector position (m), axis-angle (rad), finger joints (m).
      images: raw, of the fixed camera and of the one at the gripper.
      prompt: the instruction, one for each row of a batch.
    """
    named = {key: rotate_180(images[..., camera, :, :, :]) for camera, key in enumerate(CAMERA_KEYS)}
    return {**named, STATE: np.asarray(state, np.float32), PROMPT: prompt}


def check_for_environment(policy: VlaPolicy, name: str) -> None:
    """Checks that the environment executes a model's actions as they are meant.

    Args:
      policy: the model and its transforms.
      name: of the model, for messages.

    Raises:
      UserError: it is of another robot, they are absolute poses, or their gripper goes from 0 to 1.
    """
    if not policy.spec.robot.is_libero:
        raise other_robot(name, policy.spec.robot)
    if policy.spec.actions != "relative":
        raise UserError(f"{name} was trained on {policy.spec.actions} actions, the environment executes relative ones")
    for transform in policy.pipeline.transforms:
        if isinstance(transform, Normalize):
            stats = transform.stats.actions
            if has_other_gripper(float(stats.q01[-1]), float(stats.q99[-1])):
                raise UserError(
                    f"{name} was trained with a gripper from {stats.q01[-1]:g} to {stats.q99[-1]:g}; the environment's "
                    "goes from -1 (open) to 1 (close): convert the data and train again"
                )


def other_robot(name: str, robot: Robot) -> UserError:
    """Returns the error for a policy, of this `name`, whose robot is not LIBERO's."""
    return UserError(f"{name} is of another robot, with {robot}; LIBERO's has {LIBERO}: serve it to its own robot")


def legal_actions(actions: Float[np.ndarray, "*B H 7"]) -> Float[np.ndarray, "*B H 7"]:
    """Returns a model's actions as the environment executes them: in [-1, 1], the gripper -1 (open) or +1 (close)."""
    return np.clip(binarize_gripper(actions), -1, 1).astype(np.float32)
