"""An estimate of what tasks would cost that a fleet has not had, from those that have ended in it.

What is assumed of a task, beside that it is like those that were measured, given up as often as they are:

    bc                  costs the same whatever the task: as many optimizer steps; corrections are counted so as well
    all other stages    cost in proportion to the longest episode (`horizon`): demonstrations, environments of PPO,
                        trials until enough have succeeded, scores; with as many iterations of PPO

Ranges are 95 % prediction intervals of a sum, by Student's t, from the spread over measured tasks: they are wide where
few were measured, and absent where one was. They know nothing of tasks that are unlike all of those.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

from rlgen.core.text import number

# Whose cost does not grow with the horizon.
_FIXED = ("bc",)
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class MeasuredTask:
    """The costs of a task that has ended.

    Attributes:
      horizon: control steps of its longest episode.
      core_seconds: of each stage, by its name, of all tries.
      control_steps: of all environments in all iterations of PPO; None where that is not known, or `core_seconds` are
        of several tries.
    """

    horizon: int
    core_seconds: Mapping[str, float]
    control_steps: int | None = None


@dataclass(frozen=True)
class DeviceRate:
    """The speed of PPO on a machine with an accelerator.

    Attributes:
      name: of the machine and of how PPO runs there, as shown.
      cores: of the machine.
      control_steps_per_s: of whole iterations: environments, sampler and update.
    """

    name: str
    cores: int
    control_steps_per_s: float


@dataclass(frozen=True)
class Hours:
    """An estimate in hours.

    Attributes:
      mean: the estimate.
      low, high: ends of its interval; None where one task was measured.
    """

    mean: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return number(self.mean)
        return f"{number(self.mean)} ({number(self.low)} to {number(self.high)})"


def core_hours(measured: Sequence[MeasuredTask], horizons: Sequence[int]) -> Hours:
    """Estimates the core-hours of tasks.

    Args:
      measured: at least one task.
      horizons: of the tasks to estimate; at least one.
    """
    return _total([[core_seconds(task, horizon) for horizon in horizons] for task in measured])


def clock_hours(measured: Sequence[MeasuredTask], horizons: Sequence[int], *, cores: int, threads: int) -> Hours:
    """Estimates the hours that tasks take on cores like those of the measured ones.

    Each task is a job that keeps its threads busy, the longest first. The upper end is at least what the costliest of
    the measured tasks would take with the longest of the episodes.

    Args:
      measured: at least one task.
      horizons: of the tasks to estimate; at least one.
      cores: of the machine.
      threads: of a job.
    """
    jobs = [sum(core_seconds(task, horizon) for task in measured) / len(measured) / threads for horizon in horizons]
    hours, sums = makespan(jobs, max(1, cores // threads)) / 3600, core_hours(measured, horizons)
    if sums.low is None or sums.high is None or not sums.mean:
        return Hours(hours)
    costliest = max(core_seconds(task, max(horizons)) for task in measured) / threads / 3600
    return Hours(hours, hours * sums.low / sums.mean, max(hours * sums.high / sums.mean, costliest))


def device_hours(measured: Sequence[MeasuredTask], horizons: Sequence[int], rate: DeviceRate) -> Hours | None:
    """Estimates the hours that tasks take on one machine with an accelerator; None where no task tells PPO's steps.

    PPO's control steps take as long as they were measured to take there, one expert after the other; what the measured
    tasks scored in between is counted as such steps. The other stages are divided by the machine's cores, as if these
    were like those of the measured tasks and always busy, and come before or after: nothing runs at the same time.

    Args:
      measured: at least one task.
      horizons: of the tasks to estimate; at least one.
      rate: of the machine.
    """
    known = [task for task in measured if task.control_steps and task.core_seconds.get("ppo")]
    if not known:
        return None
    steps = sum(task.control_steps or 0 for task in known) / sum(task.core_seconds["ppo"] for task in known)

    def seconds(task: MeasuredTask, horizon: int) -> float:
        ppo = core_seconds(task, horizon, only="ppo")
        return ppo * steps / rate.control_steps_per_s + (core_seconds(task, horizon) - ppo) / rate.cores

    return _total([[seconds(task, horizon) for horizon in horizons] for task in measured])


def core_seconds(task: MeasuredTask, horizon: int, only: str | None = None) -> float:
    """Returns what a task of another horizon would cost if it were like a measured one; see the module.

    Args:
      task: that was measured.
      horizon: of the other task.
      only: a stage; None for all.
    """
    return sum(
        seconds * (1.0 if stage in _FIXED else horizon / task.horizon)
        for stage, seconds in task.core_seconds.items()
        if only in (None, stage)
    )


def makespan(jobs: Sequence[float], workers: int) -> float:
    """Returns when the last job ends, where each free worker takes the longest that is left.

    Args:
      jobs: their seconds.
      workers: at least one.
    """
    ends = [0.0] * workers
    for seconds in sorted(jobs, reverse=True):
        first = ends.index(min(ends))
        ends[first] += seconds
    return max(ends)


def _total(seconds: Sequence[Sequence[float]]) -> Hours:
    """Returns the estimate of a sum over tasks, from what they would cost if all were like each measured one."""
    sums = [sum(row) / 3600 for row in seconds]
    count, tasks, mean = len(sums), len(seconds[0]), sum(sums) / len(sums)
    if count == 1:
        return Hours(mean)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in sums) / (count - 1))
    half = float(stdtrit(count - 1, (1 + _CONFIDENCE) / 2)) * deviation * math.sqrt(1 / count + 1 / tasks)
    return Hours(mean, max(0.0, mean - half), mean + half)
