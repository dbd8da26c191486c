"""Images of an episode as a video has them: smooth, colored, another one at each step."""

import numpy as np


def moving_images(steps: int, size: int, seed: int = 0) -> np.ndarray:
    """Returns images `[steps, size, size, 3]`: two discs of other colors over a gradient from dark to light."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    images = np.empty((steps, size, size, 3))
    for step in range(steps):
        images[step] = np.stack([255 * x, 128 + 0 * x, 255 * y], -1)
        for color, phase in ((np.array([250, 40, 30]), 0.0), (np.array([20, 200, 90]), np.pi)):
            angle = phase + 2 * np.pi * step / 40 + seed
            distance = np.hypot(x - 0.5 - 0.3 * np.cos(angle), y - 0.5 - 0.3 * np.sin(angle))
            weight = np.clip((0.3 - distance) * 4, 0, 1)[..., None]
            images[step] = images[step] * (1 - weight) + color * weight
    return (images + random.normal(0, 0.5, images.shape)).clip(0, 255).astype(np.uint8)


def psnr(images: np.ndarray, expected: np.ndarray) -> float:
    """Returns the peak signal-to-noise ratio, dB."""
    error = np.mean((np.asarray(images, float) - np.asarray(expected, float)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else np.inf
