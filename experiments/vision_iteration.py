"""Cost of one iteration of PPO with the paper's policy on images, 11 to 13 million parameters with the critic.

Command:  uv run python experiments/vision_iteration.py --assets DIR [--environments 8] [--precision float32]
          On an accelerator: --environments 200 --precision bfloat16 --threads 16.
Cost:     ten minutes on one core, most of it the update.
Expected: on a CPU an iteration that is all update; nothing is learned from a single one.

Everything that preset `vision` does in an iteration, whole episodes of the task and five epochs over them, with fewer
environments and after a few steps of cloning. `--epochs` is for a first try. The JSON has seconds by what they went to,
the parameters, and the most memory that a process of it held.
"""

import argparse
import json
import resource
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import jax
from learning import demonstrations, write

from rlgen.bench.timing import describe
from rlgen.pipeline.bc import count_parameters

RESULTS = Path(__file__).resolve().parent / "results" / "speed"
DEMONSTRATIONS = 4


def main() -> None:
    """Runs `rlgen expert` once and sums up what it stored."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="libero_object/6")
    parser.add_argument("--assets", type=Path, help="the benchmark's own assets; placeholder assets by default")
    parser.add_argument("--environments", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/vision"))
    parser.add_argument("--out", type=Path, default=RESULTS / "vision_iteration.json")
    arguments = parser.parse_args()
    folder = arguments.runs / f"{arguments.environments}-{arguments.precision}"
    train(folder, arguments)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    result = summary(folder)
    write(arguments.out, result)
    print(json.dumps(result, indent=1))


def train(folder: Path, arguments: argparse.Namespace) -> None:
    """Runs the training in a process of its own."""
    source = ["--placeholders"] if arguments.assets is None else ["--assets", str(arguments.assets)]
    file = demonstrations(arguments.task, 0, DEMONSTRATIONS, arguments.runs, source)
    options = {
        "run": folder,
        "preset": "vision",
        "demos.file": file,
        "demos.episodes": DEMONSTRATIONS,
        "policy.compute-dtype": arguments.precision,
        "workers": arguments.threads,
        "bc.optimizer-steps": 40,
        "bc.batch": 16,
        "bc.warmup": 5,
        "bc.stop-success": None,
        "ppo.iterations": 1,
        # The policy trains too.
        "ppo.critic-warmup": 0,
        "ppo.environments": arguments.environments,
        "ppo.epochs": arguments.epochs,
        "ppo.batch": 50 * arguments.environments,
        "ppo.microbatch": 50,
        "ppo.evaluate-episodes": 1,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    subprocess.run(
        [sys.executable, "-m", "rlgen", "expert", arguments.task, *words, *source, "--overwrite"], check=True
    )


def summary(folder: Path) -> dict:
    """Returns parameters, seconds of the iteration (compiling included), memory, and the device."""
    from rlgen.core.process import cache_folder
    from rlgen.pipeline.context import Context
    from rlgen.pipeline.policy import make_policy
    from rlgen.policies.critic import make_critic
    from rlgen.training.metrics import read_metrics
    from rlgen.training.run import open_run

    run = open_run(folder)
    policy = make_policy(run.config, Context(run, cache_folder()).scene)
    key = jax.random.PRNGKey(0)
    networks = {"policy": policy, "critic": make_critic(policy)}
    line = next(line for line in read_metrics(folder / "ppo" / "metrics.jsonl") if line["step"] == 1)
    seconds = {name.removeprefix("seconds_"): line[name] for name in line if name.startswith("seconds_")}
    return {
        **describe(),
        "parameters": {name: count_parameters(jax.eval_shape(one.init, key)) for name, one in networks.items()},
        "iteration_seconds": seconds["total"],
        "seconds": seconds,
        "control_steps": line["control_steps"],
        "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,
        "config": {name: asdict(getattr(run.config, name)) for name in ("policy", "ppo")}
        | {"workers": run.config.workers},
    }


if __name__ == "__main__":
    main()
