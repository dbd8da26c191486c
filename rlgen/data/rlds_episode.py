"""One episode as RLDS has it, and its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from rlgen.data.frames import EncodedFrames
from rlgen.data.rlds_schema import ACTIONS, JOINTS, STATE_SIZE, libero_features
from rlgen.errors import UserError
from rlgen.types import Episode, RobotState


@dataclass(frozen=True)
class RldsEpisode:
    """T pairs of an observation and the action taken on it.

    Attributes:
      image: front camera, rotated by 180 degrees; encoded when read from a dataset.
      wrist_image: camera in the hand, likewise.
      state: end-effector position (m), axis-angle (rad), finger joints (m).
      joint_state: arm joints, radians.
      action: in [-1, 1], the gripper (last number) exactly -1 or 1.
      language_instruction: the prompt.
      file_path: where the episode came from.
    """

    image: UInt8[np.ndarray, "T h w 3"] | EncodedFrames
    wrist_image: UInt8[np.ndarray, "T h w 3"] | EncodedFrames
    state: Float[np.ndarray, "T 8"]
    joint_state: Float[np.ndarray, "T 7"]
    action: Float[np.ndarray, "T 7"]
    language_instruction: str
    file_path: str

    def __len__(self) -> int:
        return len(self.action)


def pair_episode(
    episode: Episode,
    robot: RobotState,
    image: UInt8[np.ndarray, "T h w 3"] | EncodedFrames,
    wrist_image: UInt8[np.ndarray, "T h w 3"] | EncodedFrames,
    file_path: str,
) -> RldsEpisode:
    """Pairs each action of `episode` with the robot's state and the pictures before it.

    `robot` has T or T + 1 rows, along `episode.states`; pictures have T and are rotated already.
    """
    steps = len(episode)
    return RldsEpisode(
        image=image,
        wrist_image=wrist_image,
        state=robot.vla_state[:steps].astype(np.float32),
        joint_state=robot.joints[:steps].astype(np.float32),
        action=episode.actions.astype(np.float32),
        language_instruction=episode.prompt,
        file_path=file_path,
    )


class EpisodeSerializer:
    """Turns episodes into the bytes of `tf.Example` records; the same episode gives the same bytes."""

    def __init__(self, size: int):
        """Pictures are `size` pixels a side."""
        from tensorflow_datasets.core.example_serializer import ExampleSerializer

        self._serializer = ExampleSerializer(libero_features(size).get_serialized_info())

    def __call__(self, episode: RldsEpisode) -> bytes:
        """The record of an episode that was checked, with its pictures encoded."""
        example = self._serializer.get_tf_example(_columns(episode))
        return example.SerializeToString(deterministic=True)


def check_rlds_episode(episode: RldsEpisode, size: int) -> None:
    """Raises `UserError`, naming the episode, unless it fits the schema with pictures of `size` pixels."""
    where, steps = episode.file_path, len(episode.action)
    if steps == 0:
        raise UserError(f"{where}: an episode of no steps; leave it out")
    for name, width in (("state", STATE_SIZE), ("joint_state", JOINTS), ("action", ACTIONS)):
        values = np.asarray(getattr(episode, name))
        if values.shape != (steps, width) or not np.isfinite(values).all():
            raise UserError(f"{where}: {name} {values.shape} or a number not finite, expected finite {(steps, width)}")
    for name in ("image", "wrist_image"):
        shape = getattr(episode, name).shape
        if shape != (steps, size, size, 3):
            raise UserError(f"{where}: {name} has shape {shape}, expected {(steps, size, size, 3)}")
    if not np.isin(episode.action[:, -1], (-1, 1)).all():
        raise UserError(f"{where}: a gripper action that is neither -1 nor 1; round it before it is executed")
    if np.abs(episode.action).max() > 1:
        raise UserError(f"{where}: actions reach {np.abs(episode.action).max():g}, expected [-1, 1]")


def _columns(episode: RldsEpisode) -> dict[str, Any]:
    steps = len(episode)
    last = np.arange(steps) == steps - 1
    return {
        "steps": {
            "observation": {
                "image": episode.image.data,
                "wrist_image": episode.wrist_image.data,
                "state": episode.state,
                "joint_state": episode.joint_state,
            },
            "action": episode.action,
            "discount": np.ones(steps, np.float32),
            "reward": last.astype(np.float32),
            "is_first": np.arange(steps) == 0,
            "is_last": last,
            "is_terminal": last,
            "language_instruction": [episode.language_instruction] * steps,
        },
        "episode_metadata": {"file_path": episode.file_path},
    }
