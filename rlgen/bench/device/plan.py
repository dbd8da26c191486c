"""The parts of `rlgen bench device`, most important first, with their time limits."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rlgen.bench.device import gpu, models, networks, world
from rlgen.bench.device.record import Put, Setup
from rlgen.core.errors import UserError


@dataclass(frozen=True)
class DevicePart:
    """Figures that are measured in a process of their own.

    Attributes:
      name: of the part.
      limit_s: seconds after which it is ended, compilation included; what it has measured by then counts.
      measure: calls its first argument with every figure.
    """

    name: str
    limit_s: float
    measure: Callable[[Put, Setup], None]


def _trains(name: str, model: str, cameras: int, limit_s: float = 75, **options: object) -> DevicePart:
    return DevicePart(name, limit_s, partial(models.training, model=model, cameras=cameras, **options))


def _samples(name: str, model: str, cameras: int) -> DevicePart:
    return DevicePart(name, 90, partial(models.sampling, model=model, cameras=cameras))


# As many worlds as keep a GPU busy; on images as many as the CPU has environments, for the same update.
ON_GPU = {"groups": (1,), "world": "warp", "environments": 1000}

# The first iteration in worlds on a GPU is compiled as a whole, which on an H200 takes more than a minute.
PARTS = (
    DevicePart("matrix", 25, networks.matrix_rates),
    _trains("train-pi0", "pi0", 2),
    _samples("sample-pi0", "pi0", 2),
    DevicePart("world-asleep", 105, partial(gpu.control_steps, sleep=True)),
    DevicePart("render", 50, gpu.images),
    DevicePart("ppo-vision", 120, partial(world.iterations, preset="vision", groups=(1,))),
    DevicePart("ppo-state-gpu", 200, partial(world.iterations, preset="state", **ON_GPU)),
    DevicePart("ppo-vision-gpu", 300, partial(world.iterations, preset="vision", groups=(1,), world="warp")),
    DevicePart("ppo-state", 75, partial(world.iterations, preset="state", groups=(1, 2))),
    DevicePart("ppo-compact-gpu", 300, partial(world.iterations, preset="compact", **ON_GPU)),
    _trains("train-pi0-products", "pi0", 2, remat="products"),
    DevicePart("sampler", 35, networks.sampler_table),
    DevicePart("update", 35, networks.update_table),
    DevicePart("experts", 60, networks.experts),
    _trains("train-pi05", "pi05", 2),
    _trains("train-pi0-lora", "pi0_lora", 2),
    _trains("train-pi0-three", "pi0", 3),
    DevicePart("world-awake", 90, partial(gpu.control_steps, sleep=False)),
    DevicePart("world-raw", 60, gpu.physics_steps),
    DevicePart("ppo-vision-two-groups", 120, partial(world.iterations, preset="vision", groups=(2,))),
    _samples("sample-pi05", "pi05", 2),
    _trains("train-pi05-lora", "pi05_lora", 2),
    _trains("train-pi0-lora-products", "pi0_lora", 2, remat="products"),
    _trains("train-pi0-lora-three", "pi0_lora", 3),
    _trains("train-pi05-three", "pi05", 3),
    _trains("train-pi05-lora-three", "pi05_lora", 3),
    _samples("sample-pi0-three", "pi0", 3),
    _samples("sample-pi05-three", "pi05", 3),
)


def find_parts(names: tuple[str, ...]) -> tuple[DevicePart, ...]:
    """Returns the parts of these names in the order of the plan; all of them where none is named.

    Raises:
      UserError: there is no part of a name.
    """
    known = [part.name for part in PARTS]
    for name in names:
        if name not in known:
            raise UserError(f"unknown part {name!r}, expected one of {', '.join(known)}")
    return tuple(part for part in PARTS if not names or part.name in names)
