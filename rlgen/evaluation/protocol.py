"""How success is measured, as one object: compared when an evaluation goes on, printed in its report."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from rlgen.core.errors import UserError
from rlgen.libero.envs.environment import SETTLE_STEPS
from rlgen.libero.tasks.suites import HORIZONS

_STORED = {"image_size": "picture_size"}


@dataclass(frozen=True)
class Protocol:
    """The public evaluation of VLAs on LIBERO; the defaults are openpi's.

    Attributes:
      trials: episodes of a task, from its stored initial states in order, beginning anew after the last.
      replan: actions executed before the policy is asked again.
      picture_size: pixels a side as drawn; policies resize with padding.
      view: `fast` needs no GL library; `benchmark` draws the official pixels.
      physics: `exact` equals the benchmark's environment.
      seed: of the noise, by task and trial; a server draws its own.
    """

    trials: int = 50
    replan: int = 5
    image_size: int = 256
    view: Literal["fast", "benchmark"] = "fast"
    physics: Literal["exact", "fast"] = "exact"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("trials", "replan", "image_size"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} is {getattr(self, name)}, expected 1 or more")

    def to_json(self) -> dict[str, Any]:
        """All of it, what the benchmark fixes included."""
        return {
            # The names under which evaluations have always been stored.
            **{_STORED.get(name, name): value for name, value in dataclasses.asdict(self).items()},
            "initial_states": "stored, in order",
            "settling_steps": SETTLE_STEPS,
            "rotation": "pictures turned by 180 degrees",
            "success": "the benchmark's goal predicate after any control step",
            "horizons": HORIZONS,
        }
