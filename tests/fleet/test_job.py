"""The job of a task: what ends a try, what only stops it, and that no seed is skipped by chance."""

import json
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict

import pytest

from rlgen.configs.presets import expert_presets
from rlgen.core.errors import UserError
from rlgen.core.files import disk_errors, write_json
from rlgen.core.ownership import only_writer
from rlgen.core.process import killed, pinned
from rlgen.fleet import figures
from rlgen.fleet.job import DEATHS, TryAgainError, kind_of_error
from rlgen.fleet.ledger import COSTS, read_ledger, read_state
from rlgen.fleet.plan import make_plan, open_plan, run_folder, store_plan, task_folder
from rlgen.fleet.together import work
from rlgen.libero.scenes.assets import AssetSource
from rlgen.libero.tasks.suites import find_task
from rlgen.pipeline import context

TASK = find_task("libero_goal/7")
DISK = OSError(28, "No space left on device", "/fleet/x")


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    """A fleet whose stages do nothing but what is put into its `does`: an error by (seed, stage), raised once each."""

    class Fleet:
        root = tmp_path / "fleet"
        does: dict
        ran: list

        def work(self) -> list:
            work(self.root, [TASK], tmp_path, lambda line: None, patience=0.0)
            return self.lines()

        def lines(self) -> list:
            return read_ledger(task_folder(self.root, TASK) / "ledger.jsonl")

        def state(self):
            return read_state(self.root, open_plan(self.root), TASK, now=0.0)

    made = Fleet()
    made.does, made.ran = {}, []
    assets = asdict(AssetSource("folder", tmp_path, "x")) | {"path": str(tmp_path)}
    config = expert_presets()["tiny"]
    store_plan(made.root, make_plan([TASK], config, source="diffusion", tries=3, assets=assets))

    def stage_turns(context, names, progress):
        [stage] = names
        made.ran.append((context.run.config.seed, stage))
        error = made.does.pop((context.run.config.seed, stage), None)
        if error is not None:
            context.run.stage_folder(stage)
            raise error
        context.run.finish(stage, {})
        yield from ()

    monkeypatch.setattr(context, "stage_turns", stage_turns)
    monkeypatch.setattr(figures, "run_figures", lambda context: {"seed": context.run.config.seed})
    monkeypatch.setattr(figures, "write_clips", lambda context, folder, figures: None)
    return made


STAGES = ["demos", "bc", "ppo", "collect"]


def test_a_task_that_succeeds_has_a_line_for_each_stage_and_is_not_done_twice(fleet):
    lines = fleet.work()
    assert [line["stage"] for line in lines] == [*STAGES, ""]
    assert [line["kind"] for line in lines] == ["stage"] * 4 + ["done"]
    assert all(
        line["seed"] == 0 and line["task"] == TASK.id and {*COSTS, "start", "end"} <= set(line) for line in lines
    )
    assert fleet.state().figures == {"seed": 0}
    assert fleet.work() == lines and len(fleet.ran) == 4


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserError("nothing succeeded"), "nothing succeeded"),
        (UserError("nothing succeeded", "repeat it with `rlgen run ppo`"), "nothing succeeded"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_what_fails_is_tried_again_from_another_seed(fleet, error, reason):
    fleet.does[0, "ppo"] = error
    lines = fleet.work()
    [failed] = [line for line in lines if line["kind"] == "failed"]
    assert (failed["try"], failed["seed"], failed["stage"], failed["reason"]) == (0, 0, "ppo", reason)
    assert failed["wall_seconds"] >= 0 and lines[-1]["kind"] == "done"
    assert fleet.ran == [(0, stage) for stage in STAGES[:3]] + [(1000, stage) for stage in STAGES]
    assert (fleet.state().state, fleet.state().number, fleet.state().figures) == ("done", 1, {"seed": 1000})
    assert run_folder(fleet.root, TASK, 0).is_dir() and run_folder(fleet.root, TASK, 1).is_dir()


def test_after_all_tries_it_is_given_up_until_more_are_allowed(fleet):
    for number in range(3):
        fleet.does[1000 * number, "bc"] = UserError(f"reason {number}")
    fleet.work()
    state = fleet.state()
    assert (state.state, state.reasons) == ("failed", ("reason 0", "reason 1", "reason 2"))
    before = len(fleet.ran)
    fleet.work()
    assert len(fleet.ran) == before
    record = json.loads((fleet.root / "fleet.json").read_text())
    write_json(fleet.root / "fleet.json", record | {"tries": 4})
    fleet.work()
    assert fleet.state().state == "done" and fleet.state().number == 3


def test_an_interruption_and_a_full_disk_cost_no_seed(fleet):
    fleet.does[0, "bc"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        fleet.work()
    assert fleet.lines()[-1]["why"] == "interrupted" and fleet.state().state == "stopped"
    fleet.does[0, "ppo"] = DISK
    with pytest.raises(UserError, match=r"No space left.*make room, then the same command goes on") as caught:
        fleet.work()
    assert "\n" not in str(caught.value) and fleet.lines()[-1]["why"] == "disk"
    fleet.work()
    assert fleet.state().figures == {"seed": 0} and not fleet.state().reasons
    # A stage that was done is not run again.
    assert fleet.ran.count((0, "demos")) == 1 and fleet.ran.count((0, "bc")) == 2


def test_a_killed_process_is_charged_and_the_same_seed_goes_on(fleet):
    fleet.does[0, "bc"] = MemoryError()
    with pytest.raises(TryAgainError):
        fleet.work()
    assert fleet.state().stage == "bc"
    left = task_folder(fleet.root, TASK) / "running.json"
    write_json(left, json.loads(left.read_text()) | {"core_seconds": 7.0})
    fleet.work()
    [stopped] = [line for line in fleet.lines() if line["kind"] == "stopped"]
    assert (stopped["why"], stopped["stage"], stopped["core_seconds"]) == ("killed", "bc", 7.0)
    assert fleet.state().figures == {"seed": 0} and not left.exists()


def test_what_is_killed_at_one_place_again_and_again_has_failed(fleet):
    for _ in range(DEATHS):
        fleet.does[0, "bc"] = MemoryError()
        with pytest.raises(TryAgainError):
            fleet.work()
    fleet.work()
    state = fleet.state()
    assert state.state == "done" and state.number == 1
    assert state.reason == f"its process was killed {DEATHS} times in stage bc, probably for want of memory"


def test_what_gets_further_between_two_kills_goes_on_for_ever(fleet):
    for seconds in range(2 * DEATHS):
        fleet.does[0, "bc"] = MemoryError()
        with pytest.raises(TryAgainError):
            fleet.work()
        write_json(run_folder(fleet.root, TASK, 0) / "bc" / "clock.json", {"seconds": float(seconds)})
    fleet.work()
    assert fleet.state().figures == {"seed": 0}


def test_two_processes_do_not_work_on_one_task(fleet):
    with only_writer(task_folder(fleet.root, TASK)), pytest.raises(UserError, match="another process is writing"):
        fleet.work()
    assert not fleet.ran


def test_a_task_that_is_not_in_the_plan_is_refused(fleet, tmp_path):
    with pytest.raises(UserError, match="is not in the plan"):
        work(fleet.root, [TASK, find_task("libero_goal/2")], tmp_path, print)
    assert not fleet.ran


def caused(outer: Exception, inner: Exception) -> Exception:
    try:
        raise outer from inner
    except Exception as error:
        return error


def with_disk_error() -> Exception:
    try:
        with disk_errors(task_folder):  # any path
            raise DISK
    except UserError as error:
        return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UserError("the expert succeeded in none of 200 episodes"), "failed"),
        (ValueError("x"), "failed"),
        (FileNotFoundError(2, "No such file"), "failed"),
        (DISK, "disk"),
        (OSError("Can't write data (file write failed: errno = 28, error message = 'No space')"), "disk"),
        (UserError("scenes cannot be built: [Errno 27] File too large: 'x.xml'"), "disk"),
        (UserError("scenes cannot be built: [Errno 2] No such file: 'x.xml'"), "failed"),
        (UserError("checkpoint x/3 cannot be written: no space left on the disk; free space"), "disk"),
        (caused(UserError("x"), DISK), "disk"),
        (MemoryError(), "killed"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 10 bytes"), "killed"),
        (caused(killed("a worker process"), BrokenProcessPool("x")), "killed"),
    ],
    ids=str,
)
def test_errors_are_told_apart(error, kind):
    assert kind_of_error(error) == kind


def test_a_full_disk_is_told_from_what_wraps_it():
    assert kind_of_error(with_disk_error()) == "disk"


def test_threads_are_those_of_the_plan_whatever_the_machine_says():
    here = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=true --xla_dump_to=x", "NPROC": "64", "PATH": "p"}
    one, four = pinned(1, here), pinned(4, {})
    assert one["NPROC"] == one["OMP_NUM_THREADS"] == "1" and four["OPENBLAS_NUM_THREADS"] == "4"
    assert one["XLA_FLAGS"].split() == ["--xla_dump_to=x", "--xla_cpu_multi_thread_eigen=false"]
    assert four["XLA_FLAGS"] == "--xla_cpu_multi_thread_eigen=true" and "PATH" not in one
