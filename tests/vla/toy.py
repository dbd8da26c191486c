"""Small datasets and models for tests of training, serving and evaluation."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
from dataset_tools import write_rlds

from rlgen.data.card import CARD_JSON
from rlgen.data.episode import DatasetEpisode
from rlgen.data.frames import MemoryFrames, frame_table
from rlgen.data.loader import Mixture
from rlgen.vla.data.normalize import mixture_statistics
from rlgen.vla.data.spec import InputSpec, make_pipeline
from rlgen.vla.data.transforms import Pipeline
from rlgen.vla.model.config import VlaConfig
from rlgen.vla.model.presets import tiny
from rlgen.vla.training.config import FineTune, TrainConfig, smoke

SIDE = 32

# Two images of 32 pixels, four tokens each, chunks of two actions.
CONFIG = dataclasses.replace(
    tiny(),
    vision=dataclasses.replace(tiny().vision, patch=16, stem_cell=4, depth=0),
    image_size=32,
    horizon=2,
    prompt_length=4,
    unroll=False,
)
TRAIN = dataclasses.replace(
    smoke(),
    steps=300,
    batch=32,
    draws=4,
    peak_rate=3e-3,
    end_rate=1e-4,
    warmup=20,
    ema=0.97,
    shift=0,
    state_noise=0.0,
    mask_padding=False,
)


def dot_episodes(count: int, seed: int, prompt: str = "touch the dot") -> list[SimpleNamespace]:
    """Makes episodes with a dot in the first image; the first two dimensions of the action are its position."""
    random = np.random.default_rng(seed)
    episodes = []
    for _ in range(count):
        at = random.integers(0, 30, 2)
        image = np.full((3, 32, 32, 3), 40, np.uint8)
        image[:, at[0] : at[0] + 3, at[1] : at[1] + 3] = (255, 30, 30)
        action = np.tile(np.r_[at / 15 - 1, 0, 0, 0, 0, random.choice([-1, 1])], (3, 1))
        state = np.tile(random.normal(size=8), (3, 1))
        state[:, 7] = action[:, 6]
        episodes.append(
            SimpleNamespace(
                image=image,
                wrist_image=np.zeros_like(image),
                state=state,
                action=action,
                language_instruction=prompt,
            )
        )
    return episodes


def numbered_frames(lengths: list[int], size: int = 8, first: int = 0) -> MemoryFrames:
    """Makes episodes of these lengths; frame i has images, state and action of value `first` + i."""
    count = sum(lengths)
    values = first + np.arange(count)
    image = np.tile(values[:, None, None, None] % 100, (1, size, size, 3)).astype(np.uint8)
    table = frame_table(
        state=values[:, None].repeat(8, 1).astype(np.float32),
        action=values[:, None].repeat(7, 1).astype(np.float32),
        lengths=lengths,
        instructions=["count"] * len(lengths),
    )
    return MemoryFrames(table, image, image + 100)


def pipeline_for(config: VlaConfig, mixture: Mixture, spec: InputSpec | None = None) -> Pipeline:
    spec = spec or InputSpec()
    return make_pipeline(config, spec, mixture_statistics(mixture, config.horizon, delta=spec.delta))


def train_like(**changes) -> TrainConfig:
    return dataclasses.replace(TRAIN, **changes)


def export(folder, name, seed, count=12, change=lambda index, values: None, prompt=None):
    """Writes episodes with a dot as an RLDS dataset; `change` alters the columns of an episode."""
    episodes = []
    for index, e in enumerate(dot_episodes(count, seed, prompt=prompt or f"touch the {name}")):
        values = {"state": e.state.astype(np.float32), "action": e.action.astype(np.float32)}
        values |= {"image": e.image, "wrist_image": e.wrist_image}
        change(index, values)
        episodes.append(
            DatasetEpisode(
                joint_state=np.zeros((3, 7), np.float32),
                language_instruction=e.language_instruction,
                file_path=f"{name}/{index}",
                **values,
            )
        )
    directory = write_rlds(folder, name, episodes, size=SIDE, shards=1)
    (directory / CARD_JSON).write_text(json.dumps({"action_semantics": "relative"}))
    return directory


def settings(folders, out, **changes):
    """Returns four steps of fine-tuning `tiny` on one or two datasets."""
    train = dataclasses.replace(smoke(), steps=4, batch=4, draws=1, warmup=1)
    given = {
        "data": tuple(map(str, folders)),
        "out": str(out),
        "model": "tiny",
        "image_size": SIDE,
        "mix": (3.0, 1.0)[: len(folders)],
        "hold_out": 0.2,
        "log_every": 1,
        "checkpoint_every": 2,
        "validate_every": 2,
        "validate_frames": 8,
        "train": train,
    }
    return FineTune(**given | changes)
