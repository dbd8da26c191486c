"""What a model is really given, in lines to read before a training starts."""

import numpy as np

from rlgen.vla.batches import make_batch
from rlgen.vla.job import Job


def describe_inputs(job: Job) -> list[str]:
    """Transforms, cameras, state, prompt and masks of the first batch."""
    batch = make_batch(job.config, job.mixture, job.pipeline, job.options, 0)
    lines = [f"transforms: {', '.join(job.pipeline.names)}"]
    for name, pictures in batch.pictures.items():
        mask = np.asarray(batch.picture_mask[name])
        seen = f"mean {pictures[mask].mean():.0f} of 255" if mask.any() else "masked: the data has no such camera"
        lines.append(f"camera {name}: {list(pictures.shape[1:])}, {seen}")
    size = job.pipeline.transforms[-1].state_size
    state, actions = batch.state[:, :size], batch.actions[..., :7]
    where = "in the prompt" if job.config.state_in_prompt else "not read by the network"
    where = "a token of its own" if job.config.family == "pi0" else where
    lines.append(f"state: {size} numbers, normalised {state.min():.1f} to {state.max():.1f}, {where}")
    lines.append(f"actions: {list(actions.shape[1:])}, normalised {actions.min():.1f} to {actions.max():.1f}")
    mine = job.mixture.draw(job.options.batch, job.options.seed, 0)[job.options.rows]
    prompt = job.mixture.sample(mine[:1], job.config.horizon)["prompt"][0]
    lines.append(f"prompt: {prompt!r}, {int(batch.prompt_mask[0].sum())} of {job.config.prompt_length} tokens")
    behind = 1 - np.asarray(batch.chunk_mask).mean()
    counted = "left out of" if job.train.mask_padding else "counted in"
    lines.append(f"actions behind an episode's end: {100 * behind:.0f} % of this batch, {counted} the loss")
    return lines
