"""The job of a process: the work on its tasks, the iterations of PPO of several of them in one program.

Up to `FleetPlan.together` tasks are at work. Each goes on alone, one after the other, until it needs an iteration of
PPO; once all of them do, those whose programs agree have it together, and the others alone. A task that ends makes room
for the next one that waits. Every task has its own run, checkpoints and ledger, as if it were alone, so that a job that
was killed goes on, with the same tasks or others beside each.
"""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlgen.core.errors import UserError
from rlgen.fleet.job import PATIENCE, Surroundings, TryAgainError, deaths, task_turns
from rlgen.fleet.meter import Shares
from rlgen.fleet.plan import open_plan
from rlgen.libero.tasks.suites import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from rlgen.rl.ppo import Expert

# Deaths in a row at one place after which a task is worked on alone, so that it kills no others.
SUSPECT = 3


def work(
    root: Path, tasks: Sequence[Task], cache: Path, log: "Callable[[str], None]", patience: float = PATIENCE
) -> None:
    """Does the work on tasks, or what is left of it.

    Args:
      root: folder of the fleet.
      tasks: of its plan.
      cache: folder of scenes and compiled programs.
      log: called with a line for what is decided.
      patience: seconds to wait for another process at the same task.

    Raises:
      UserError: a task is not in the plan, or was refused because another process is at it or the disk is full; all
        others have been worked on.
      TryAgainError: the work on a task goes on in another process; likewise.
    """
    plan = open_plan(root)
    for task in tasks:
        if task.id not in plan.tasks:
            raise UserError(f"{task.id} is not in the plan of {root}; add it with `rlgen fleet TASKS --out {root}`")
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(plan.threads)) if plan.together > 1 else None
        around = Surroundings(root, plan, cache, log, Shares(), pool, patience)
        errors = _Crew(around, tasks).work()
    # What concerns all tasks first: the disk is full.
    for kind in (UserError, TryAgainError, Exception):
        for error in errors:
            if isinstance(error, kind):
                raise error


class _Member:
    """A task at work.

    Attributes:
      task: of it.
      is_suspect: its processes were killed so often that it is worked on alone.
      expert: that needs an iteration; None once the work has ended.
      error: with which it ended, if any.
    """

    def __init__(self, around: Surroundings, task: Task, is_suspect: bool):
        self.task, self.is_suspect = task, is_suspect
        self.expert: Expert | None = None
        self.error: Exception | None = None
        self._turns = task_turns(around, task)

    def go_on(self, outcome: Any) -> None:
        """Goes on until the next iteration or the end; given the outcome of the last one, None for the first time."""
        self.expert = None
        try:
            if isinstance(outcome, BaseException):
                self.expert = self._turns.throw(outcome)
            else:
                self.expert = self._turns.send(outcome)
        except StopIteration:
            pass
        except Exception as error:
            self.error = error


class _Crew:
    """The tasks of a process: those at work, and those that wait."""

    def __init__(self, around: Surroundings, tasks: Sequence[Task]):
        self._around = around
        suspects = {task for task in tasks if deaths(around.root, task) >= SUSPECT}
        self._waiting = deque((task, task in suspects) for task in sorted(tasks, key=lambda task: task not in suspects))
        self._members: list[_Member] = []
        self._errors: list[Exception] = []

    def work(self) -> list[Exception]:
        """Works until all tasks have ended; returns the errors with which any did."""
        try:
            while self._waiting or self._members:
                while self._waiting and self._has_room(self._waiting[0][1]):
                    self._members.append(_Member(self._around, *self._waiting.popleft()))
                    self._go_on(self._members[-1], None)
                for group in _alike(self._members):
                    self._around.shares.work_for(*(member.task.id for member in group), devices=_devices(len(group)))
                    for member, outcome in zip(group, _iterate(group, self._around.plan.threads), strict=True):
                        self._go_on(member, outcome)
        except BaseException as error:
            # An interruption: every task records what it has cost.
            for member in self._members:
                with suppress(BaseException):
                    member.go_on(error)
            raise
        return self._errors

    def _has_room(self, is_suspect: bool) -> bool:
        """Returns whether another task may begin."""
        if is_suspect or any(member.is_suspect for member in self._members):
            return not self._members
        return len(self._members) < self._around.plan.together

    def _go_on(self, member: _Member, outcome: Any) -> None:
        self._around.shares.work_for(member.task.id)
        member.go_on(outcome)
        if member.expert is None:
            self._members.remove(member)
            self._errors += [] if member.error is None else [member.error]
        self._around.shares.work_for()


def _alike(members: Sequence[_Member]) -> list[list[_Member]]:
    """Returns members by what their compiled programs follow from."""
    groups: list[list[_Member]] = []
    for member in members:
        assert member.expert is not None
        for group in groups:
            if group[0].expert is not None and group[0].expert.program == member.expert.program:
                group.append(member)
                break
        else:
            groups.append([member])
    return groups


def _devices(count: int) -> int:
    """Returns the devices over which the experts of a group are divided."""
    from rlgen.rl.population import expert_mesh

    mesh = expert_mesh(count)
    return 1 if mesh is None else mesh.size


def _iterate(group: Sequence[_Member], threads: int) -> list[Any]:
    """Returns state and metrics of each member's iteration, or the error that it met."""
    from rlgen.rl.population import expert_mesh, iterate_population

    experts = [member.expert for member in group if member.expert is not None]
    try:
        if len(experts) > 1:
            return list(iterate_population(experts, expert_mesh(len(experts)), threads=threads))
        [expert] = experts
        return [expert.iterate()]
    except Exception as error:
        return [error] * len(experts)
