"""The paper's ablations (its figure 5) on one task, with state policies and a budget for a CPU.

Command:  uv run python experiments/ablations.py --assets DIR [NAME ...] [--seeds 0] [--task libero_object/9]
          NAME is sampler, schedule, environments, network, or network-finished; all by default.
Cost:     10 to 30 minutes a variant and seed on one core, ten variants, of which three share a run.
          `--preset tiny` tries everything in minutes.
Expected: of the paper's findings, that DDPM is no better than DDIM with 5 steps; at this budget not that a cosine
          schedule, many environments and the U-Net end higher.

Every variant is a run of `rlgen expert` with the same demonstrations, and clones them anew, to the same policy where
only PPO differs. Results are one JSON for each variant and seed in experiments/results/ablations/, and a figure with a
panel for each name.
"""

import argparse
import json
import shutil
from pathlib import Path

from learning import summary, train, write

RESULTS = Path(__file__).resolve().parent / "results" / "ablations"
# DDPM trains the last 10 of its 100 steps, as the reference implementation does; few environments play as much.
FEW, FEWER = 5, 8
# The U-Net whose cloning is broken off hardly ever succeeds with noise, so that PPO has nothing to learn from: these
# are cloned to the end, from few demonstrations so that something is left to learn.
FINISHED = ["--bc.stop-success", "None", "--bc.episodes", "4", "--bc.optimizer-steps", "2000"]
VARIANTS: dict[str, dict[str, list[str]]] = {
    "sampler": {
        "DDIM, 5 steps": [],
        "DDPM, 100 steps": ["--policy.diffusion.sampler", "ddpm", "--policy.diffusion.num-finetuned-steps", "10"],
    },
    "schedule": {"cosine": [], "constant": ["--ppo.schedule", "constant"]},
    "environments": {"many": [], "few": ["--ppo.environments", str(FEW)]},
    "network": {"U-Net": ["--policy.network", "unet"], "MLP": []},
    "network-finished": {"U-Net": [*FINISHED, "--policy.network", "unet"], "MLP": FINISHED},
}


def main() -> None:
    """Runs what is missing, one run at a time, then draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=[], help=f"of {', '.join(VARIANTS)}; all by default")
    parser.add_argument("--task", default="libero_object/9")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--preset", default="state")
    parser.add_argument("--assets", type=Path, help="the benchmark's own assets; placeholder assets by default")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--demonstrations", type=int, default=40, help="recorded for each seed")
    parser.add_argument("--episodes", type=int, default=50, help="of the scores before and after")
    parser.add_argument("--iterations", type=int, default=30, help="of PPO, in every variant with many environments")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(VARIANTS))
    if unknown:
        parser.error(f"unknown ablation {unknown[0]!r}, expected one of {', '.join(VARIANTS)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or VARIANTS:
        for variant, options in VARIANTS[name].items():
            for seed in arguments.seeds:
                one(name, variant, options, seed, arguments)
    draw(arguments.out)


def one(name: str, variant: str, options: list[str], seed: int, arguments: argparse.Namespace) -> None:
    """Runs one variant; variants that change nothing share their run.

    Args:
      name: of the ablation.
      variant: of it.
      options: of `rlgen expert` that the variant needs.
      seed: of the run.
      arguments: of the command line.
    """
    slug = "standard" if not options else f"{name}-{variant.lower().replace(', ', '-').replace(' ', '-')}"
    folder = arguments.runs / f"{slug}-{seed}"
    # As many control steps in all: with fewer environments more, and smaller, iterations.
    iterations = arguments.iterations * (FEWER if variant == "few" else 1)
    budget = ["--ppo.iterations", str(iterations), "--ppo.evaluate-every", str(5 if variant != "few" else 5 * FEWER)]
    train(arguments.task, "diffusion", seed, folder, arguments, [*options, *budget, "--ppo.target", "None"])
    result = summary(folder, arguments.episodes) | {"ablation": name, "variant": variant}
    target = arguments.out / f"{name}-{slug}-{seed}.json"
    write(target, result)
    shutil.copyfile(folder / "ppo" / "metrics.jsonl", target.with_suffix(".jsonl"))


def draw(folder: Path) -> None:
    """Draws a panel for each ablation that has results."""
    from rlgen.report.plots import SuccessCurve, comparison
    from rlgen.report.style import save
    from rlgen.training.metrics import read_metrics

    panels: dict[str, dict[str, list[SuccessCurve]]] = {}
    order = [(name, variant) for name, variants in VARIANTS.items() for variant in variants]
    runs = []
    for file in sorted(folder.glob("*.json")):
        result = json.loads(file.read_text())
        runs.append((order.index((result["ablation"], result["variant"])), file))
    for index, file in sorted(runs):
        name, variant = order[index]
        curve = SuccessCurve.from_metrics(read_metrics(file.with_suffix(".jsonl")))
        panels.setdefault(name, {}).setdefault(variant, []).append(curve)
    save(comparison(panels), folder / "ablations.png")


if __name__ == "__main__":
    main()
