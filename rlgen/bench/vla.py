"""`rlgen bench vla`: a training step of a VLA on the device at hand: time, tokens, utilization, waiting for data."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib import metadata
from itertools import islice
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, PyTree

from rlgen.bench.timing import describe, matmul_gflops, seconds_of
from rlgen.data.frames import FrameSource, MemoryFrames, frame_table
from rlgen.data.images import EncodedFrames, encode_frames
from rlgen.data.loader import mix
from rlgen.training.sharding import make_mesh, state_shardings
from rlgen.vla.data.normalize import mixture_statistics
from rlgen.vla.data.spec import InputSpec, make_pipeline
from rlgen.vla.model import pi0
from rlgen.vla.model.config import VlaConfig
from rlgen.vla.training.config import TrainConfig
from rlgen.vla.training.loop import Trainer, compile_step, init_state, run_steps
from rlgen.vla.training.memory_plan import GIB, device_bytes, memory_plan, peak_flops, step_flops, tokens_per_frame

WARM_UP = 3
STORED = 256


def synthetic_frames(frames: int, image_size: int, seed: int = 0) -> MemoryFrames:
    """Returns JPEGs of 256 x 256 as an export holds them, decoded and resized when a batch is made.

    Args:
      frames: number of frames.
      image_size: height and width after resizing, pixels.
      seed: of images, states and actions.
    """
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
    images = coarse.repeat(STORED // 16, axis=1).repeat(STORED // 16, axis=2)
    stored = encode_frames(images)
    data = tuple(stored.data[index % len(stored)] for index in range(frames))
    lengths = [min(100, frames - first) for first in range(0, frames, 100)]
    table = frame_table(
        state=random.normal(size=(frames, 8)).astype(np.float32),
        action=random.uniform(-1, 1, (frames, 7)).astype(np.float32),
        lengths=lengths,
        instructions=["pick up the butter and place it in the basket"] * len(lengths),
    )
    return MemoryFrames(table, EncodedFrames(data, (STORED, STORED)), EncodedFrames(data, (STORED, STORED)), image_size)


def run(
    name: str,
    config: VlaConfig,
    train: TrainConfig,
    *,
    frames: FrameSource | None = None,
    steps: int = 20,
    blocks: int = 3,
    fsdp: int = 1,
    threads: int = 2,
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Times `blocks` times `steps` training steps after a warm-up, loading of data included.

    Args:
      name: of the preset, for the report.
      config: the model.
      train: batch and trained parameters.
      frames: data to train on; synthetic JPEGs by default.
      steps: training steps of a block.
      blocks: whose median is reported.
      fsdp: devices that share each parameter.
      threads: that decode.
      log: called with a line of progress now and then.

    Returns:
      The report, as JSON values.
    """
    device = jax.devices()[0]
    train = replace(train, steps=WARM_UP + steps * blocks + 1, warmup=0)
    mesh = make_mesh(fsdp)
    plan = memory_plan(config, train, devices=mesh.size, fsdp=fsdp)
    log(f"{device.device_kind}: {plan}")
    mixture = mix([frames or synthetic_frames(2000, config.image_size)])
    pipeline = make_pipeline(config, InputSpec(), mixture_statistics(mixture, config.horizon, delta=False))
    stream = Trainer(config, train, pipeline, mixture, mesh, threads).loader()
    shardings = state_shardings(mesh, jax.eval_shape(partial(init_state, config, train)))
    state = jax.jit(partial(init_state, config, train), out_shardings=shardings)()
    step = compile_step(config, train, shardings)
    start = time.perf_counter()
    state, _ = run_steps(step, state, islice(stream, WARM_UP), mesh=mesh)
    log(f"compiled and warm after {time.perf_counter() - start:.0f} s")
    measured = []
    for _ in range(blocks):
        state, values = run_steps(step, state, islice(stream, steps), mesh=mesh)
        measured.append((values["step_s"], values["data_wait_share"]))
        log(f"{values['step_s']:.4f} s a step, {100 * values['data_wait_share']:.1f} % waiting for data")
    seconds = float(np.median([s for s, _ in measured]))
    peak, source = _peak(mesh.size)
    return {
        "preset": name,
        "device": describe()["device"],
        "step_s": seconds,
        "tokens_per_s": train.batch * tokens_per_frame(config, train.draws) / seconds,
        "mfu": step_flops(config, train) / seconds / peak,
        "data_wait_share": float(np.median([w for _, w in measured])),
        "peak_flops": peak,
        "peak_source": source,
        "devices": mesh.size,
        "fsdp": fsdp,
        "cameras": len(config.cameras),
        "batch": train.batch,
        "accumulate": train.accumulate,
        "trainable": train.trainable,
        "ema": train.ema is not None,
        "moments": train.moments,
        "remat": config.remat,
        "dtype": config.dtype,
        "flops_a_step": step_flops(config, train),
        "step_s_of_blocks": [s for s, _ in measured],
        "steps_a_block": steps,
        "warm_up_steps": WARM_UP,
        "data": "synthetic JPEGs" if frames is None else "dataset",
        "planned_gib": plan.total / GIB,
        "peak_gib": _peak_gib(),
        "device_gib": None if device_bytes() is None else device_bytes() / GIB,
        "versions": {package: metadata.version(package) for package in ("jax", "flax", "optax")},
    }


def time_sampling(
    config: VlaConfig, batch: int, sampling_steps: Sequence[int], repetitions: int
) -> dict[str, dict[str, float]]:
    """Times the sampling of actions with fresh parameters in the type in which a model computes, without transforms.

    Args:
      config: the model.
      batch: observations at once.
      sampling_steps: numbers of Euler steps; one program serves all.
      repetitions: timed calls of each.

    Returns:
      For each number of steps, median, least and most seconds of a call, and observations per second.
    """

    @jax.jit
    def make(key: Array) -> PyTree:
        return jax.tree.map(lambda leaf: leaf.astype(config.dtype), pi0.init(config, key))

    params, inputs = make(jax.random.key(0)), pi0.example_inputs(config, batch)
    noise = jax.random.normal(jax.random.key(1), (batch, config.horizon, config.action_size))
    found = {}
    for steps in sampling_steps:
        timing = seconds_of(lambda steps=steps: pi0.sample(config, params, inputs, noise, steps), repetitions)
        found[str(steps)] = {**timing, "per_s": batch / timing["seconds"]}
    return found


def _peak(devices: int) -> tuple[float, str]:
    """Returns the operations per second that utilization is a fraction of, and their source."""
    published = peak_flops(jax.devices()[0].device_kind)
    if published is not None:
        return published * devices, "published"
    # Host devices share the processor's cores: the rate of one is that of all.
    return 1e9 * matmul_gflops(5), "float32 matrix product measured in this run"


def _peak_gib() -> float | None:
    stats = jax.local_devices()[0].memory_stats() if jax.devices()[0].platform != "cpu" else None
    return stats["peak_bytes_in_use"] / GIB if stats and "peak_bytes_in_use" in stats else None
