"""Several tasks in one process: who has iterations together, who makes room for whom, and whose an error is."""

import json
from dataclasses import dataclass

import pytest

from rlgen.configs.presets import expert_presets
from rlgen.core.errors import UserError
from rlgen.core.files import write_json
from rlgen.fleet import figures, meter
from rlgen.fleet.job import LOG, TryAgainError
from rlgen.fleet.ledger import COSTS, read_ledger, read_state
from rlgen.fleet.meter import Meter, Shares, Spent
from rlgen.fleet.plan import make_plan, open_plan, store_plan, task_folder
from rlgen.fleet.together import SUSPECT, work
from rlgen.libero.tasks.suites import find_tasks
from rlgen.pipeline import context
from rlgen.rl import population
from rlgen.rl.numerics import NonFiniteError

TASKS = find_tasks("libero_goal/7", "libero_goal/2", "libero_goal/5")
A, B, C = TASKS
ASSETS = {"kind": "folder", "path": "/assets", "label": "x"}


@dataclass
class FakeExpert:
    """An expert of a task before an iteration."""

    task: str
    program: str
    fleet: "FakeFleet"

    def iterate(self):
        [outcome] = self.fleet.iterate([self])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class FakeFleet:
    """A fleet whose stages do nothing but iterations, as many as `iterations` has by task, with errors by `does`.

    `does` has an error by task and stage, or by task and iteration of its first try; it is raised once.
    """

    def __init__(self, root, together: int):
        self.root, self.does, self.groups = root, {}, []
        self.iterations = dict.fromkeys((task.id for task in TASKS), 2)
        self.programs = dict.fromkeys((task.id for task in TASKS), "one")
        config = expert_presets()["tiny"]
        plan = make_plan(TASKS, config, source="diffusion", tries=3, assets=ASSETS, together=together)
        store_plan(root, plan)

    def work(self, tasks=TASKS) -> None:
        work(self.root, tasks, self.root, lambda line: None, patience=0.0)

    def turns(self, context, names, progress):
        [stage], task = names, context.run.config.task
        with progress.stage(stage) as line:
            error = self.does.pop((task, stage), None)
            if error is not None:
                raise error
            for iteration in range(self.iterations[task] if stage == "ppo" else 0):
                try:
                    done = yield FakeExpert(task, self.programs[task], self)
                except NonFiniteError as error:
                    raise UserError(f"iteration {iteration}: {error}") from None
                assert done == f"done {task}"
            line.log("ended")
        context.run.finish(stage, {})

    def iterate(self, experts, mesh=None, *, threads=1):
        self.groups.append([next(task for task in TASKS if task.id == expert.task) for expert in experts])
        error = self.does.pop("all", None)
        if error is not None:
            raise error
        return [self.does.pop((one.task, len(self.groups)), None) or f"done {one.task}" for one in experts]

    def lines(self, task) -> list[dict]:
        return read_ledger(task_folder(self.root, task) / "ledger.jsonl")

    def kinds(self, task) -> list[str]:
        return [line["kind"] if line["kind"] != "stage" else line["stage"] for line in self.lines(task)]

    def states(self) -> list[str]:
        plan = open_plan(self.root)
        return [read_state(self.root, plan, task, now=1e12).state for task in TASKS]


@pytest.fixture
def fleet(tmp_path, monkeypatch) -> FakeFleet:
    made = FakeFleet(tmp_path / "fleet", together=2)
    monkeypatch.setattr(context, "stage_turns", made.turns)
    monkeypatch.setattr(population, "iterate_population", made.iterate)
    monkeypatch.setattr(figures, "run_figures", lambda context: {"seed": context.run.config.seed})
    monkeypatch.setattr(figures, "write_clips", lambda context, folder, figures: None)
    return made


STAGES = ["demos", "bc", "ppo", "collect", "done"]


def test_an_expert_that_ends_makes_room_for_the_next_task(fleet):
    fleet.iterations |= {A.id: 1, B.id: 3, C.id: 3}
    fleet.work()
    assert fleet.groups == [[A, B], [B, C], [B, C], [C]]
    assert [fleet.kinds(task) for task in TASKS] == [STAGES] * 3


def test_experts_of_other_programs_have_iterations_of_their_own(fleet):
    fleet.programs[B.id] = "another"
    fleet.work([A, B])
    assert fleet.groups == [[A], [B]] * 2


def test_ledgers_say_how_many_there_were_and_logs_are_of_each_task(fleet):
    fleet.work()
    for task in (A, B):
        found = {line["stage"]: line.get("together") for line in fleet.lines(task)}
        assert found == {"demos": None, "bc": None, "ppo": 2, "collect": None, "": None}
        assert "[3/4] ppo: ended" in (task_folder(fleet.root, task) / LOG).read_text()


def test_an_expert_whose_numbers_are_not_finite_fails_its_try_alone(fleet):
    fleet.does[B.id, 2] = NonFiniteError("value_loss")
    fleet.work([A, B])
    assert fleet.kinds(A) == STAGES
    assert fleet.kinds(B) == ["demos", "bc", "failed", *STAGES]
    failed, done = fleet.lines(B)[2], fleet.lines(B)[-1]
    assert "iteration 1: value_loss is not finite" in failed["reason"] and done["figures"] == {"seed": 1000}
    assert fleet.groups == [[A, B], [A, B], [B], [B]]


@pytest.mark.parametrize("where", ["bc", 1, "collect"])
@pytest.mark.parametrize(
    ("error", "raised"),
    [(OSError(28, "No space left on device"), UserError), (MemoryError("little"), TryAgainError)],
)
def test_what_refuses_one_task_lets_the_others_end_first(fleet, where, error, raised):
    fleet.does[B.id, where] = error
    with pytest.raises(raised):
        fleet.work()
    assert fleet.states() == ["done", "stopped", "done"] and "failed" not in fleet.kinds(B)
    fleet.work()
    assert fleet.states() == ["done"] * 3 and fleet.lines(B)[-1]["figures"] == {"seed": 0}


def test_what_goes_wrong_with_an_iteration_of_all_costs_nobody_a_seed(fleet):
    fleet.does["all"] = RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 10 bytes")
    with pytest.raises(TryAgainError):
        fleet.work([A, B])
    fleet.work([A, B])
    for task in (A, B):
        [stopped] = [line for line in fleet.lines(task) if line["kind"] == "stopped"]
        assert (stopped["why"], stopped["stage"]) == ("killed", "ppo") and fleet.kinds(task)[-1] == "done"


def test_an_interruption_is_recorded_by_all_that_are_at_work(fleet):
    fleet.does["all"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        fleet.work()
    assert fleet.kinds(A) == fleet.kinds(B) == ["demos", "bc", "stopped"] and fleet.kinds(C) == []
    assert fleet.lines(A)[-1]["why"] == "interrupted" and fleet.lines(A)[-1]["together"] == 2
    # With others, or alone, it goes on.
    fleet.work([B, C])
    fleet.work([A])
    assert fleet.states() == ["done"] * 3 and all(fleet.lines(task)[-1]["figures"] == {"seed": 0} for task in TASKS)


def test_a_task_whose_processes_are_killed_again_and_again_is_worked_on_alone(fleet):
    for _ in range(SUSPECT):
        fleet.does[C.id, "bc"] = MemoryError()
        with pytest.raises(TryAgainError):
            fleet.work([C])
    fleet.work()
    assert fleet.groups == [[C], [C], [A, B], [A, B]] and fleet.states() == ["done"] * 3


def test_a_task_that_another_process_is_at_is_refused_and_the_others_end(fleet):
    from rlgen.core.ownership import only_writer

    with only_writer(task_folder(fleet.root, B)), pytest.raises(UserError, match="another process is writing"):
        fleet.work()
    assert fleet.states() == ["done", "waiting", "done"]


@pytest.fixture
def clocks(monkeypatch):
    """Shares of a process that has spent five core-seconds on its start, and a function that lets it spend more."""
    now = {"core": 5.0, "wall": 100.0}
    monkeypatch.setattr(meter, "core_seconds", lambda: now["core"])
    monkeypatch.setattr(meter, "devices", lambda: 1)

    def spend(core: float, wall: float) -> None:
        now["core"], now["wall"] = now["core"] + core, now["wall"] + wall

    return Shares(lambda: now["wall"]), spend


def test_the_first_stage_bears_the_start_and_what_others_spend_is_nothing_to_it(clocks, tmp_path):
    shares, spend = clocks
    shares.work_for("a")
    mine = Meter(tmp_path, "a", shares)
    mine.begin(**{"try": 0}, seed=0, stage="bc", mark=0.0)
    spend(2.0, 3.0)
    shares.work_for("b")
    spend(9.0, 9.0)
    shares.work_for("a")
    first = mine.end()
    mine.begin(**{"try": 0}, seed=0, stage="demos", mark=0.0)
    spend(1.0, 1.0)
    second = mine.end()
    mine.close()
    assert [first[name] for name in COSTS] == [7.0, 3.0, 3.0]
    assert [second[name] for name in COSTS] == [1.0, 0.0, 1.0]


def test_costs_are_those_of_the_task_at_work_or_shares_of_those_together(clocks):
    shares, spend = clocks
    spend(1.0, 2.0)
    shares.work_for("a")  # which bears the start of the process as well
    spend(4.0, 2.0)
    assert shares.of("a") == Spent(10.0, 4.0, 4.0) and shares.of("b") == Spent()
    shares.work_for("a", "b", devices=2)
    spend(6.0, 3.0)
    shares.work_for()
    spend(7.0, 7.0)
    shares.work_for("b")
    spend(1.0, 1.0)
    assert shares.of("a") == Spent(13.0, 7.0, 5.5) and shares.of("b") == Spent(4.0, 4.0, 2.5)
    assert (shares.most_together("a"), shares.most_together("a"), shares.most_together("b")) == (2, 1, 2)


def test_the_number_together_is_part_of_the_plan_and_one_where_a_plan_says_nothing(tmp_path):
    config = expert_presets()["tiny"]
    options = {"source": "diffusion", "tries": 3, "assets": ASSETS}
    store_plan(tmp_path, make_plan(TASKS, config, **options, together=3))
    assert open_plan(tmp_path).together == 3
    with pytest.raises(UserError, match=r"together \(3 -> 2\)"):
        store_plan(tmp_path, make_plan(TASKS, config, **options, together=2))
    record = json.loads((tmp_path / "fleet.json").read_text())
    write_json(tmp_path / "fleet.json", {name: value for name, value in record.items() if name != "together"})
    assert open_plan(tmp_path).together == 1
    write_json(tmp_path / "fleet.json", record | {"together": 0})
    with pytest.raises(UserError, match="cannot be read"):
        open_plan(tmp_path)


@pytest.mark.parametrize("source", ["clone", "scripted"])
def test_nothing_but_ppo_is_done_together(source):
    with pytest.raises(UserError, match=rf"--together 2.*--source {source}: expected 1") as raised:
        make_plan(TASKS, expert_presets()["tiny"], source=source, tries=3, assets=ASSETS, together=2)
    assert "\n" not in str(raised.value)
