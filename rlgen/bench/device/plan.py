"""The parts of `rlgen bench device`, most important first, with their time limits."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rlgen.bench.device import models, networks, world
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
    return DevicePart(name, 75, partial(models.sampling, model=model, cameras=cameras))


def _gpu(name: str, limit_s: float, what: str) -> DevicePart:
    return DevicePart(name, limit_s, partial(world.gpu_world, what=what))


PARTS = (
    DevicePart("matrix", 25, networks.matrix_rates),
    _trains("train-pi0", "pi0", 2),
    _samples("sample-pi0", "pi0", 2),
    _gpu("world-asleep", 60, "control steps by scene and number of worlds, with the controller, islands asleep"),
    _gpu("render", 40, "images of both cameras by number of worlds"),
    _gpu("ppo-vision-gpu", 60, "PPO iterations on images, world and renderer on the GPU"),
    DevicePart("ppo-vision", 90, partial(world.iterations, preset="vision", groups=(2,))),
    _gpu("ppo-state-gpu", 40, "PPO iterations on the state, world on the GPU"),
    DevicePart("ppo-state", 45, partial(world.iterations, preset="state", groups=(1, 2))),
    _trains("train-pi0-products", "pi0", 2, remat="products"),
    DevicePart("sampler", 35, networks.sampler_table),
    DevicePart("update", 35, networks.update_table),
    DevicePart("experts", 60, networks.experts),
    _trains("train-pi05", "pi05", 2),
    _trains("train-pi0-lora", "pi0_lora", 2),
    _trains("train-pi0-three", "pi0", 3),
    _gpu("world-awake", 60, "control steps by scene and number of worlds, with the controller, all awake"),
    _gpu("world-raw", 40, "physics steps by scene and number of worlds, without a controller"),
    DevicePart("ppo-vision-one-group", 75, partial(world.iterations, preset="vision", groups=(1,))),
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
