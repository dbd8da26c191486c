"""A trained model that acts in our environments."""

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from rlgen.core.actions import binarize_gripper
from rlgen.core.types import Observation
from rlgen.data.images import rotate_180
from rlgen.libero.rendering.pool import RenderPool
from rlgen.vla.data.transforms import PROMPT, STATE, Sample
from rlgen.vla.serving.policy import Policy

CAMERA_ORDER = ("observation/image", "observation/wrist_image")


def robot_sample(
    state: Float[np.ndarray, "*B 8"], images: UInt8[np.ndarray, "*B cameras h w 3"], prompt: str | list[str]
) -> Sample:
    """An observation by the keys of openpi's LIBERO clients; pictures come as the benchmark draws them."""
    named = {name: rotate_180(images[..., i, :, :, :]) for i, name in enumerate(CAMERA_ORDER)}
    return {**named, STATE: np.asarray(state, np.float32), PROMPT: prompt}


def legal_actions(actions: Float[np.ndarray, "*B H 7"]) -> Float[np.ndarray, "*B H 7"]:
    """A model's actions as the environment takes them: in [-1, 1], the gripper -1 (open) or +1 (close)."""
    return np.clip(binarize_gripper(actions), -1, 1).astype(np.float32)


@dataclass(frozen=True)
class VlaActor:
    """Turns observations and pictures into chunks of actions.

    Attributes:
      policy: the model and its transforms.
      chunk: actions to execute before looking again, at most the model's horizon.
    """

    policy: Policy
    chunk: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.chunk <= self.policy.config.horizon:
            raise ValueError(f"chunk {self.chunk} must lie in 1..{self.policy.config.horizon}, the model's horizon")

    def __call__(
        self,
        observation: Observation,
        images: UInt8[np.ndarray, "N cameras h w 3"],
        prompt: str,
        key: Array,
    ) -> Float[np.ndarray, "N H 7"]:
        """Samples the next `chunk` actions of each environment.

        Args:
          observation: N environments; of it only the robot's state is used.
          pictures: as the benchmark draws them (upside down): fixed camera, then the camera at the hand.
          prompt: the instruction.
          key: of the noise.

        Returns:
          Actions in [-1, 1], the gripper -1 (open) or +1 (close).
        """
        config = self.policy.config
        noise = np.asarray(jax.random.normal(key, (len(images), config.horizon, config.action_size)))
        sample = robot_sample(observation.robot.vla_state, images, [prompt] * len(images))
        actions = self.policy.act(self.policy.prepare(sample), noise)
        return legal_actions(actions)[:, : self.chunk]


class PoolVlaActor:
    """Renders the images of each environment before a chunk, and asks the model.

    Args:
      actor: the model.
      prompt: the instruction.
      renderers: of the environments' scene, with images of the size that the model was trained on.
    """

    def __init__(self, actor: VlaActor, prompt: str, renderers: RenderPool):
        self._actor, self._prompt, self._renderers = actor, prompt, renderers
        self._seed = self._looks = 0

    def reset(self, seeds: Int[np.ndarray, " N"]) -> None:
        self._seed, self._looks = int(seeds[0]) & 0xFFFFFFFF, 0

    def __call__(self, observation: Observation) -> Float[np.ndarray, "N H 7"]:
        key = jax.random.fold_in(jax.random.PRNGKey(self._seed), self._looks)
        self._looks += 1
        images = self._renderers.render(observation.physics)
        return self._actor(observation, images, self._prompt, key)
