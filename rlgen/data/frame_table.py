"""The numbers of a dataset, step by step, and the chunks of actions that begin at each of them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True)
class FrameTable:
    """The numbers of F steps, episode after episode: a hundred bytes a step.

    Attributes:
      state: end-effector position (m), axis-angle (rad), finger joints (m), as stored.
      action: as stored.
      episode: number of the episode that a step belongs to.
      end: number of the step behind the last one of that episode.
      prompt: number of its instruction in `prompts`.
      prompts: the instructions.
    """

    state: Float[np.ndarray, "F 8"]
    action: Float[np.ndarray, "F 7"]
    episode: Int[np.ndarray, " F"]
    end: Int[np.ndarray, " F"]
    prompt: Int[np.ndarray, " F"]
    prompts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.state)

    def chunks(
        self, steps: Int[np.ndarray, " B"], horizon: int
    ) -> tuple[Float[np.ndarray, "B H 7"], Bool[np.ndarray, "B H"]]:
        """The actions from steps on, an episode's last one repeated behind its end, and which of them exist."""
        index, end = steps[:, None] + np.arange(horizon), self.end[steps][:, None]
        return self.action[np.minimum(index, end - 1)], index < end


def frame_table(
    state: Float[np.ndarray, "F 8"], action: Float[np.ndarray, "F 7"], lengths: list[int], instructions: list[str]
) -> FrameTable:
    """The table of episodes of these lengths, with an instruction each."""
    prompts = tuple(dict.fromkeys(instructions))
    return FrameTable(
        state=state,
        action=action,
        episode=np.repeat(np.arange(len(lengths)), lengths),
        end=np.repeat(np.cumsum(lengths), lengths),
        prompt=np.repeat([prompts.index(instruction) for instruction in instructions], lengths),
        prompts=prompts,
    )
