"""Parts about flow VLAs: training steps, and the latency of actions."""

from dataclasses import replace
from functools import partial

from rlgen.bench import vla
from rlgen.bench.device.record import Put, Setup
from rlgen.vla.model import presets
from rlgen.vla.model.config import Cameras, Remat, VlaConfig
from rlgen.vla.training.config import recipe

BATCH, STEPS, BLOCKS = 32, 5, 3
BATCHES, SAMPLING_STEPS, CALLS = (1, 8, 32), (10, 5, 3), 10


def training(put: Put, setup: Setup, *, model: str, cameras: Cameras, remat: Remat = True) -> None:
    """Measures training steps: seconds, utilization, memory.

    Args:
      put: receives the figures.
      setup: of the run.
      model: name of the preset.
      cameras: images of the model.
      remat: what is computed again in the backward pass.
    """
    config = replace(sized(model, cameras, setup), remat=remat)
    train = replace(recipe(model), batch=BATCH)
    if setup.dry_run:
        # A CPU takes longest to compile the augmentation.
        train = replace(train, batch=2, augment=False)
    steps, blocks = (1, 1) if setup.dry_run else (STEPS, BLOCKS)
    log = partial(print, flush=True)
    put("step", vla.run(model, config, train, steps=steps, blocks=blocks, threads=setup.threads, log=log))


def sampling(put: Put, setup: Setup, *, model: str, cameras: Cameras) -> None:
    """Measures seconds from images to actions, by batch and steps; weights are in bfloat16.

    Args:
      put: receives the figures.
      setup: of the run.
      model: name of the preset.
      cameras: images of the model.
    """
    config = sized(model, cameras, setup)
    for batch in BATCHES[:1] if setup.dry_run else BATCHES:
        timings = vla.time_sampling(config, batch, SAMPLING_STEPS, 1 if setup.dry_run else CALLS)
        put(f"batch {batch}", timings)


def sized(model: str, cameras: Cameras, setup: Setup) -> VlaConfig:
    """Returns a preset's model with a number of cameras; in a dry run, the smallest one of its kind.

    Args:
      model: name of the preset.
      cameras: images of the model.
      setup: of the run.
    """
    config = presets.with_cameras(presets.preset(model), cameras)
    if not setup.dry_run:
        return config
    small = presets.tiny()
    stem = replace(small.vision, stem="linear")
    small = replace(small, family=config.family, cameras=config.cameras, dtype=config.dtype, vision=stem, unroll=False)
    return presets.with_lora(small) if config.language.lora is not None else small
