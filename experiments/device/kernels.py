"""Compiles the kernels of the world on the GPU on a machine that has none, to be carried to one.

Command:  python experiments/device/kernels.py CACHE [--assets DIR] [--threads 2]     (packages of `rlgen.libero.warp`)
Cost:     a core-hour for six scenes on two busy cores; what the folder holds already is not compiled again.
Expected: a folder for `WARP_CACHE_PATH` with machine code for one architecture, 30 MB.

The first physics step on a GPU would otherwise wait minutes for the compiler, within the time limits of the parts.
Kernels are chosen as MuJoCo Warp launches them, on the CPU, where nothing runs: launches are only noted, on a device
that is said to be a GPU. The compiler itself is within Warp and needs no driver.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlgen.bench.device.gpu import AWAKE, TASKS
from rlgen.bench.device.record import Setup
from rlgen.bench.device.world import TASK, scene_of
from rlgen.libero.rendering.software import CAMERAS
from rlgen.libero.warp.device import Libraries, load_warp
from rlgen.libero.warp.models import accelerator_model, reset_states

# Of an H100 and an H200.
ARCHITECTURE, MULTIPROCESSORS = 90, 132
WORLDS = 64
# What takes longest to compile, to begin with.
SLOW = ("ccd_", "cholesky", "megakernel", "narrowphase", "passive", "forward", "linesearch")
# Modules without kernels that the calls from JAX load.
EMPTY = ("mujoco.mjx.warp.ffi", "mujoco.mjx.warp.forward")
Launches = dict[tuple[str, int], Any]


def main() -> None:
    """Compiles kernels of scenes into a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path, help="folder for WARP_CACHE_PATH")
    parser.add_argument("--assets", type=Path, help="the benchmark's own assets; placeholder assets by default")
    parser.add_argument("--scenes", type=Path, help="folder of scene bundles; the cache by default")
    parser.add_argument("--tasks", nargs="+", default=[TASK, *TASKS], help="whose worlds are compiled")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shard", default="0/1", help="compile every N-th module from the I-th on, I/N")
    parser.add_argument("--list", action="store_true", help="only name the modules")
    arguments = parser.parse_args()
    os.environ |= {"WARP_CACHE_PATH": str(arguments.cache), "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    libraries = load_warp()
    launches: Launches = {}
    folders = {"assets": arguments.assets, "scenes": arguments.scenes}
    options = {name: None if folder is None else str(folder) for name, folder in folders.items()}
    setup = Setup(**options, placeholders=arguments.assets is None)
    for place, task in enumerate(dict.fromkeys(arguments.tasks)):
        for step in _steps(libraries, task, setup, draw=place == 0):
            with _noted(libraries.warp, launches):
                step()
        print(f"{task}: {len(launches)} modules", flush=True)
    import mujoco.mjx.warp.forward  # noqa: F401, it loads its modules
    from warp._src.context import get_module

    for name in EMPTY:
        launches.setdefault((name, 256), get_module(name))
    index, count = map(int, arguments.shard.split("/"))
    chosen = in_order(launches)[index::count]
    if arguments.list:
        print(*chosen, sep="\n")
        return
    with ThreadPoolExecutor(arguments.threads) as threads:
        for line in threads.map(lambda key: compile_module(*key, launches[key]), chosen):
            print(line, flush=True)


def in_order(launches: Launches) -> list[tuple[str, int]]:
    """Returns the keys of modules, those that take longest first."""
    return sorted(launches, key=lambda key: (not any(word in key[0] for word in SLOW), key))


def compile_module(name: str, block: int, module: Any) -> str:
    """Compiles a module for the architecture; returns a line that says so.

    Args:
      name: of the module.
      block: threads of a block.
      module: Warp's.
    """
    start = time.perf_counter()
    try:
        module.get_module_hash(block)
        options = module.resolved_options[block]
        done = module._compile(device=None, output_arch=ARCHITECTURE, use_ptx=False, options=options)
    except Exception as error:
        return f"{name} {block}: {error!r}"[:300]
    return f"{name} {block}: {'compiled' if done else 'there'}, {time.perf_counter() - start:.1f} s"


def _steps(libraries: Libraries, task: str, setup: Setup, *, draw: bool) -> Iterator[Callable[[], None]]:
    """Yields physics steps of a task's world, awake and with sleeping objects, and its images."""
    mujoco_warp = libraries.mujoco_warp
    scene = scene_of(task, setup)
    room = reset_states(scene).counted.with_head_room()
    for sleep in (True, False):
        model = accelerator_model(scene, sleep=sleep)
        device_model = mujoco_warp.put_model(model)
        device_model.opt.warn_overflow = 0  # as `WarpWorld` has it; kernels are compiled for it
        buffers = {"naconmax": WORLDS * room.contacts, "njmax": room.constraints, "nvmax": AWAKE if sleep else None}
        data = mujoco_warp.make_data(model, nworld=WORLDS, **buffers)
        yield lambda m=device_model, d=data: mujoco_warp.step(m, d)
    if draw:
        visual = scene.visual_model
        device_model = mujoco_warp.put_model(visual)
        data = mujoco_warp.make_data(visual, nworld=2, naconmax=16, njmax=8)
        options = {"cam_active": list(CAMERAS), "enabled_geom_groups": [1], "samples_per_pixel": 1}
        flags = {"render_rgb": True, "render_depth": False, "render_seg": False}
        context = mujoco_warp.create_render_context(mjm=visual, nworld=2, cam_res=(128, 128), **flags, **options)

        def images() -> None:
            mujoco_warp.refit_bvh(device_model, data, context)
            mujoco_warp.render(device_model, data, context)

        yield images


class _Gpu:
    """Warp's CPU device, said to be a GPU."""

    is_cuda, is_cpu, is_mempool_enabled = True, False, True
    ordinal, alias = 0, "cuda:0"
    sm_count, arch = MULTIPROCESSORS, ARCHITECTURE

    def __init__(self, device: Any):
        self._device = device

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)


@contextmanager
def _noted(warp: Any, launches: Launches) -> Iterator[None]:
    """Notes the modules that are launched instead of running them; loops run once, and both branches of a condition."""

    def launch(kernel: Any, dim: Any = None, inputs: Sequence = (), outputs: Sequence = (), *_: Any, **options: Any):
        block = options.get("block_dim")
        block = 256 if block is None or block <= 0 else block
        if kernel.is_generic:
            kernel.add_overload(kernel.infer_argument_types([*inputs, *outputs]))
        key = (kernel.module.name, block)
        if key not in launches:
            kernel.module.get_module_hash(block)  # before a later launch adds a kernel to it
        launches.setdefault(key, kernel.module)

    gpu = _Gpu(warp.get_device("cpu"))
    instead = {
        "launch": launch,
        "launch_tiled": launch,
        "get_device": lambda *_: gpu,
        "get_suggested_block_size": lambda *_, **__: (256, 2 * MULTIPROCESSORS),
        "capture_while": lambda condition, while_body, **values: while_body(**values),
        "capture_if": lambda condition, on_true=None, on_false=None, **values: [
            branch(**values) for branch in (on_true, on_false) if branch is not None
        ],
    }
    before = {name: getattr(warp, name) for name in instead}
    try:
        for name, value in instead.items():
            setattr(warp, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(warp, name, value)


if __name__ == "__main__":
    main()
