"""Metrics to Weights & Biases, for those who ask for it."""

from typing import Any

from rlgen.errors import UserError
from rlgen.train.tensorboard import scalars


class WandbLog:
    """One run of a project; a stage that goes on from a checkpoint goes on in the same one."""

    def __init__(self, project: str, name: str, config: dict[str, Any]):
        """Starts, or goes on with, the run `name`.

        Raises:
          UserError: the package is not installed.
        """
        try:
            import wandb
        except ImportError as error:
            raise UserError("wandb is not installed; `pip install rlgen[wandb]`, or leave --wandb away") from error
        self._run = wandb.init(project=project, name=name, id=name, config=config, resume="allow")

    def write(self, line: dict[str, Any]) -> None:
        """Logs a metrics line."""
        self._run.log(scalars(line), step=int(line["step"]))
