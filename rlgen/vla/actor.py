"""A trained model that acts."""

from dataclasses import dataclass, field

import jax
import numpy as np
from jaxtyping import Array, Float, PyTree, UInt8

from rlgen.types import Observation
from rlgen.vla import model
from rlgen.vla.config import VlaConfig
from rlgen.vla.tokens import Encode, hashed_words, tokenize
from rlgen.vla.transforms import NormStats, model_inputs, resize, robot_actions, upright

CAMERA_ORDER = ("base_0_rgb", "left_wrist_0_rgb")


@dataclass(frozen=True)
class VlaActor:
    """Turns observations and pictures into chunks of actions.

    Attributes:
      config: sizes of the model.
      params: its parameters, the averaged ones of training.
      stats: what it was normalised with.
      chunk: actions to execute before looking again, at most the model's horizon.
      steps: Euler steps of sampling.
      batch: observations a call of the network; other numbers are filled up, so that it compiles once.
      encode: tokenizer it was trained with; hashed words if None.
    """

    config: VlaConfig
    params: PyTree
    stats: NormStats
    chunk: int = 8
    steps: int = 10
    batch: int = 8
    encode: Encode | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= self.chunk <= self.config.horizon:
            raise ValueError(f"chunk {self.chunk} must lie in 1..{self.config.horizon}, the model's horizon")

    def __call__(
        self,
        observation: Observation,
        pictures: UInt8[np.ndarray, "N cameras h w 3"],
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
        count = len(pictures)
        shape = (count, self.config.horizon, self.config.action_size)
        noise = np.asarray(jax.random.normal(key, shape))
        state = np.asarray(observation.robot.vla_state, np.float32)
        out = []
        for start in range(0, count, self.batch):
            # Environment 0 fills up the last group; what comes out for it is dropped.
            rows = np.arange(start, start + self.batch)
            rows = np.where(rows < count, rows, 0)
            out.append(self.act(pictures[rows], state[rows], prompt, noise[rows]))
        return np.concatenate(out)[:count]

    def act(
        self,
        pictures: UInt8[np.ndarray, "B cameras h w 3"],
        state: Float[np.ndarray, "B 8"],
        prompt: str,
        noise: Float[np.ndarray, "B H A"],
    ) -> Float[np.ndarray, "B H 7"]:
        """The same for one group, from given noise."""
        encode = self.encode or hashed_words(self.config.vocabulary)
        ids, mask = (np.tile(x, (len(state), 1)) for x in tokenize(prompt, encode, self.config.prompt_length))
        named = {name: resize(upright(pictures[:, i]), self.config.image_size) for i, name in enumerate(CAMERA_ORDER)}
        inputs = model_inputs(self.config, self.stats, named, state, ids, mask)
        actions = model.sample(self.config, self.params, inputs, noise, self.steps)
        return np.asarray(robot_actions(self.stats, actions))[:, : self.chunk]
