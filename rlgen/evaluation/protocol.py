"""The settings of an evaluation: stored with it, compared when it resumes, printed in its report."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from rlgen.core.errors import UserError
from rlgen.libero.envs.environment import SETTLE_STEPS
from rlgen.libero.scenes.fixtures import Fixtures
from rlgen.libero.tasks.suites import HORIZONS

# Names under which evaluations have always been stored, by those used here.
_STORED = {"image_size": "picture_size", "renderer": "view"}
_INITIAL_STATES = {
    "heldout": "stored, in order",
    "train": "training reset states, in order",
    "wide": "training reset states of wide resets, in order",
}


@dataclass(frozen=True)
class Protocol:
    """The public evaluation of VLAs on LIBERO; the defaults are openpi's.

    Attributes:
      trials: episodes of a task, from its initial states in order, beginning again after the last.
      replan: actions executed before the policy is asked again.
      image_size: height and width as rendered, pixels; policies resize with padding.
      renderer: `fast` needs no GL library, `benchmark` gives the official pixels, `warp` draws on a GPU.
      physics: `exact` equals the benchmark's environment.
      fixtures: `redraw` places cabinets, stoves and racks anew in every trial, as the benchmark does at every reset;
        `fixed` leaves them where they stand in the scene bundle.
      split: initial states: `heldout`, the benchmark's stored ones, or training reset states, `train` or `wide`.
      seed: of the fixtures and of the noise, by task and trial; a server draws its own noise.
    """

    trials: int = 50
    replan: int = 5
    image_size: int = 256
    renderer: Literal["fast", "benchmark", "warp"] = "fast"
    physics: Literal["exact", "fast"] = "exact"
    fixtures: Fixtures = "redraw"
    split: Literal["heldout", "train", "wide"] = "heldout"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("trials", "replan", "image_size"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} is {getattr(self, name)}, expected 1 or more")

    def to_json(self) -> dict[str, Any]:
        """Returns all settings, including those that the benchmark fixes."""
        settings = dataclasses.asdict(self)
        split = settings.pop("split")
        return {
            **{_STORED.get(name, name): value for name, value in settings.items()},
            "initial_states": _INITIAL_STATES[split],
            "settling_steps": SETTLE_STEPS,
            "rotation": "pictures turned by 180 degrees",  # codespell:ignore
            "success": "the benchmark's goal predicate after any control step",
            "horizons": HORIZONS,
        }
