"""The devices and processes of a training: options of every command that trains on more than one of them.

They are no part of what is trained, so that they are not stored with a run, and may differ when it is resumed.
"""

from dataclasses import dataclass

from rlgen.configs.ranges import Count, Natural, Settings
from rlgen.core.errors import UserError


@dataclass(frozen=True)
class DeviceConfig(Settings):
    """Options of a training on several devices, in one process or in several; every process is given the same."""

    coordinator: str | None = None
    """host:port of the first process, where there are several."""
    processes: Count = 1
    """Number of processes."""
    process: Natural = 0
    """Index of this process."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.process >= self.processes:
            raise UserError(f"--process {self.process}: expected 0 to {self.processes - 1}, as --processes says")
        if self.processes > 1 and self.coordinator is None:
            raise UserError(f"{self.processes} processes need --coordinator host:port of the first")


@dataclass(frozen=True)
class RunDevices(DeviceConfig):
    """Options of cloning and PPO on several devices; a small policy is trained fastest on one."""

    devices: Count = 1
    """Devices of each process over which environments and minibatches are divided."""

    @property
    def is_first(self) -> bool:
        """True for the process that does what only one can, such as writing what all have computed."""
        return self.process == 0


ONE_DEVICE = RunDevices()
