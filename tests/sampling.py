"""Which tests run when: `unit` within a minute, `slow` on demand, and a sample of tasks for what is slow on all 130.

`pytest` runs all but `slow`, `pytest -m slow` what is left, `pytest -m "slow or not slow"` all.

What is `slow`, and why:

| test | tasks or cases | reason |
| --- | --- | --- |
| `libero/test_benchmark_parity.py` | 116 tasks | each is recorded in the benchmark's own environment: 1.5 s |
| `libero/test_placeholders.py`: built, at rest, solved | 116 tasks | each is built and searched for a solution: 1 s |
| `libero/test_placeholders.py`: beside the benchmark's scenes | 6 of 16 tasks | each is built and settled twice: 4 s |
| `libero/warp/`: torque, poses, observations, goals | 125 to 128 tasks | programs of each scene are compiled: to 3 s |
| `libero/warp/`: observations, goals along successes | 4 tasks | the scripted expert plays each: 10 s |
| `libero/warp/test_world.py`: each suite | 5 tasks | kernels and a program are compiled for each: a minute |
| `libero/warp/test_iteration.py` | the policy on images | kernels of both are compiled: minutes |
| `libero/test_recorded_images.py` | 4 of 5 tasks | each rendered by the benchmark itself: 8 s |
| `vla/test_openpi_model.py`, `vla/test_weights.py` | 2 of 4 reference models | each is compiled often: 15 to 40 s |
| `vla/test_stock_client.py` | all | an environment with openpi-client is installed |
| `nets/test_unet1d.py` | 4 of 6 networks | each is compiled twice: 15 s |
| `nets/test_vision_golden.py` | 1 of 2 networks on images | each is compiled twice: 16 s |
| `bench/test_networks.py` | 3 of 4 Gaussian policies, `state` by default | no presets, and long to trace: 10 s |
| `fleet/test_fleet.py` | all but one | whole commands: fleets of two experts, three to ten minutes each |
| `pipeline/test_resume.py` | all | nine runs of the whole job |
| `rl/test_population.py` | several devices | programs are compiled for one and for two: half a minute |
| `rl/test_mesh.py` | the policy on images | its programs are compiled for one, two and eight devices: a minute |
"""

from collections.abc import Hashable, Iterable

import pytest

from rlgen.libero.tasks.suites import Task, all_tasks, find_task

# Folders and files below `tests` whose tests are marked `unit`: functions and small networks, no scene, no training.
UNIT = (
    "core/",
    "training/",
    "diffusion/",
    "report/",
    *(f"data/test_{name}.py" for name in ("card", "encode_ahead", "episodes", "images", "noops", "quality", "resize")),
    *(f"data/test_{name}.py" for name in ("statistics", "tfrecord", "verify", "video")),
    *(f"nets/test_{name}.py" for name in ("conv1d", "mlp", "random_shift")),
    *(f"rl/test_{name}.py" for name in ("accumulate", "losses", "returns", "scaling", "schedules")),
    *(f"policies/test_{name}.py" for name in ("critic", "gaussian_golden", "normalizer")),
    *(
        f"vla/test_{name}.py"
        for name in ("augment", "batcher", "batches", "flow", "tokens", "training_statistics", "transforms")
    ),
    *(f"libero/test_{name}.py" for name in ("bddl", "initial_states", "tasks")),
    *(f"demos/scripted/test_{name}.py" for name in ("grasps", "motion", "pose")),
    *(f"fleet/test_{name}.py" for name in ("figures", "job", "launch", "ledger", "page", "plan", "together")),
    "evaluation/test_leaderboard.py",
    "evaluation/test_records.py",
    "evaluation/test_speed.py",
    "libero/warp/test_double.py",
    "libero/warp/test_rotations.py",
    "test_array_types.py",
    "test_house.py",
    "test_layout.py",
    "test_readers.py",
    "test_sampling.py",
)

# `test_sampling.py` holds these to it: every suite, room, fixture, object and predicate of the benchmark, goals of one,
# two and three atoms. Other tests use the first eight as well, so that their scenes are built once.
SAMPLE = (
    "libero_spatial/0",  # on another object; bowl, plate, ramekin, cookies, stove, wooden cabinet
    "libero_object/6",  # in a box on the floor; basket and groceries
    "libero_goal/0",  # a drawer opened; wine bottle, wine rack, cream cheese
    "libero_goal/4",  # on a fixture, and nothing else
    "libero_10/3",  # a kitchen; into a drawer that is closed then; white cabinet
    "libero_10/4",  # a living room; two atoms; mugs
    "libero_10/8",  # three atoms; a stove turned on, moka pots
    "libero_90/39",  # a stove turned off
    "libero_10/5",  # a study; black book, desk caddy
    "libero_10/9",  # microwave
    "libero_90/45",  # frying pan, white bowl, two-layer shelf
    "libero_90/60",  # wooden tray, new salad dressing
    "libero_90/86",  # yellow book
    "libero_object/0",  # alphabet soup, milk, salad dressing
)


def sampled(tasks: Iterable[Task] | None = None) -> list:
    """Returns tasks as parameters of a test, those outside of the sample marked `slow`; all of them if None."""
    chosen = sample()
    return [
        pytest.param(task, id=f"{task.suite}-{task.index}", marks=() if task in chosen else pytest.mark.slow)
        for task in (all_tasks() if tasks is None else tasks)
    ]


def less(values: Iterable[Hashable], slow: Iterable[Hashable]) -> list:
    """Returns values as parameters of a test, those of `slow` marked so.

    Args:
      values: all of them.
      slow: some of them.
    """
    apart = set(slow)
    assert apart <= set(values)
    return [pytest.param(value, marks=pytest.mark.slow if value in apart else ()) for value in values]


def sample() -> tuple[Task, ...]:
    """Returns the tasks of the sample."""
    return tuple(find_task(name) for name in SAMPLE)


def selected(request: pytest.FixtureRequest, otherwise: Iterable[Hashable]) -> set:
    """Returns the values of `task` in the tests of the requesting module that this session runs.

    Args:
      request: of a fixture that makes something for each of them.
      otherwise: the values if none of these tests has the parameter.
    """
    here = [item for item in request.session.items if item.path == request.path]
    named = {item.callspec.params.get("task") for item in here if hasattr(item, "callspec")} - {None}
    return named or set(otherwise)
