"""The episodes that `rlgen bench dataset` writes and reads: pictures as cameras give them, numbers from a seed."""

from collections.abc import Iterator

import cv2
import numpy as np

from rlgen.data.episode import DatasetEpisode

PROMPTS = ("put the bowl on the plate", "open the top drawer", "turn on the stove")


def episodes(count: int, steps: int, size: int) -> Iterator[DatasetEpisode]:
    """Episodes whose pictures have edges, gradients and a little noise, so that JPEG has its usual work."""
    for number in range(count):
        noise = np.random.default_rng(number)
        views = [_views(noise, steps, size) for _ in range(2)]
        action = noise.uniform(-1, 1, (steps, 7)).astype(np.float32)
        action[:, 6] = np.where(np.arange(steps) < steps // 2, -1, 1)
        state, joints = noise.normal(size=(steps, 8)), noise.normal(size=(steps, 7))
        yield DatasetEpisode(
            *views,
            state.astype(np.float32),
            joints.astype(np.float32),
            action,
            PROMPTS[number % len(PROMPTS)],
            f"bench/{number}",
        )


def _views(noise: np.random.Generator, steps: int, size: int) -> np.ndarray:
    """A scene of coloured boxes over a gradient that a camera moves along."""
    wide = 2 * size
    rows, columns = np.mgrid[0:size, 0:wide]
    scene = np.stack([rows * 120 / size + 60, columns * 90 / wide + 70, (rows + columns) * 40 / wide + 90], axis=2)
    scene = np.ascontiguousarray(scene.astype(np.uint8))
    for _ in range(24):
        corner = noise.integers(0, (wide, size))
        side = noise.integers(size // 16, size // 4, 2)
        color = tuple(int(value) for value in noise.integers(20, 236, 3))
        cv2.rectangle(scene, corner.tolist(), (corner + side).tolist(), color, -1)
    scene = np.clip(scene + noise.normal(0, 2, scene.shape), 0, 255).astype(np.uint8)
    starts = np.linspace(0, size - 1, steps).astype(int)
    return np.stack([scene[:, start : start + size] for start in starts])
