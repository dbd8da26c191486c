"""Datasets that lerobot itself writes; RLGEN_LEROBOT_PYTHON names an interpreter that has it.

`experiments/readers/run.py` makes such environments.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from moving_images import moving_images, psnr

from rlgen.cli.main import main
from rlgen.data.dataset import open_dataset

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "readers" / "write_lerobot.py"
SIZE, LENGTHS, PROMPTS = 64, (9, 6, 7), ("push", "turn", "push")


@pytest.fixture(scope="module")
def given() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    images = {name: [moving_images(steps, SIZE, seed + 3 * k) for seed, steps in enumerate(LENGTHS)] for k, name in
              enumerate(("image", "wrist_image"))}  # fmt: skip
    actions = random.uniform(-1, 1, (sum(LENGTHS), 7)).astype(np.float32)
    actions[:, 6] = 1
    return {
        **{name: np.concatenate(parts) for name, parts in images.items()},
        "lengths": np.array(LENGTHS),
        "prompts": np.array(PROMPTS),
        "actions": actions,
        "states": random.normal(size=(sum(LENGTHS), 8)).astype(np.float32),
    }


@pytest.fixture(scope="module", params=["video", "image"])
def written(request, given, tmp_path_factory):
    """A dataset by lerobot, and what lerobot read of it."""
    python = os.environ.get("RLGEN_LEROBOT_PYTHON")
    if python is None:
        pytest.skip("RLGEN_LEROBOT_PYTHON names no interpreter with lerobot")
    folder = tmp_path_factory.mktemp("by_lerobot")
    np.savez(folder / "given.npz", **given)
    command = [
        python,
        str(SCRIPT),
        str(folder / "given.npz"),
        str(folder / "data"),
        request.param,
        str(folder / "out.npz"),
    ]
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    subprocess.run(command, check=True, env=clean | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}, timeout=300)
    return folder / "data", dict(np.load(folder / "out.npz"))


@pytest.mark.slow
def test_every_step_is_read_and_a_training_takes_it(written, given, tmp_path):
    folder, theirs = written
    episodes = open_dataset(folder)
    assert [len(episode) for episode in episodes] == list(LENGTHS)
    assert [episode.language_instruction for episode in episodes] == list(PROMPTS)
    np.testing.assert_array_equal(np.concatenate([episode.action for episode in episodes]), given["actions"])
    np.testing.assert_array_equal(np.concatenate([episode.state for episode in episodes]), given["states"])
    for name in ("image", "wrist_image"):
        read = np.concatenate([np.asarray(getattr(episode, name)) for episode in episodes])
        assert psnr(read, given[name]) > 30
        distances = np.abs(read[:, None].astype(int) - given[name][None]).mean((2, 3, 4))
        assert np.array_equal(distances.argmin(1), np.arange(sum(LENGTHS)))
        np.testing.assert_array_equal([getattr(episode, name)[0] for episode in episodes], theirs[f"first_{name}"])
    words = ["--model", "tiny", "--actions", "relative", "--hold-out", "0", "--dry-run", "--out", str(tmp_path / "vla")]
    main(["vla", "train", "--data", str(folder), *words])
