"""Products of a training step of a flow VLA, counted in the traced program: nothing is run.

Command:  uv run python experiments/vla_dry_profile.py [--model pi0] [--batch 32]
Cost:     half a minute.
Expected: with everything recomputed, a quarter more than what utilization counts; with products kept, a hundredth.

By model part and pass: operations, how many of them are in products with a short side, and the seconds that they would
take at an assumed rate of large products and an assumed memory bandwidth, whichever is more. What else touches memory,
the optimizer and attention's scores, is added at that bandwidth. `utilization_at_best` is the utilization of that:
an estimate and a bound, not a measurement. The target for two cameras, 50 %, has not been measured.
"""

import argparse
import dataclasses
from collections import defaultdict
from functools import partial
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp

from rlgen.bench.timing import Product, products
from rlgen.core.files import write_json
from rlgen.vla.model import pi0, presets
from rlgen.vla.model.config import VlaConfig
from rlgen.vla.model.gemma import Gemma
from rlgen.vla.training.config import TrainConfig
from rlgen.vla.training.memory_plan import GIB, memory_plan, peak_flops, step_flops

RESULTS = Path(__file__).resolve().parent / "results" / "vla"
SHORT = 128  # rows, columns or terms below which a product does not fill a tile of a tensor core's kernel
SCORE_PASSES = 6  # reads and writes of float32 scores in a softmax and its mask, forward and recomputed or backward
TARGET = 0.5


def main() -> None:
    """Counts every variant and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pi0")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="H200")
    parser.add_argument("--rate", type=float, default=6.4e14, help="operations per second of large products")
    parser.add_argument("--bandwidth", type=float, default=4.8e12, help="bytes per second of the device's memory")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    variants = {
        f"{cameras} cameras, remat {remat}": variant(arguments, cameras, remat)
        for cameras in (3, 2)
        for remat in (True, "products")
    }
    with mock.patch.object(Gemma, "keys_and_values", whole_last_layer):
        variants["3 cameras, remat True, whole last layer"] = variant(arguments, 3, True)
    report = {
        "model": arguments.model,
        "batch": arguments.batch,
        "assumed": {"device": arguments.device, "product_rate": arguments.rate, "bandwidth": arguments.bandwidth},
        "peak_flops": peak_flops(arguments.device),
        "target": {"cameras": 2, "utilization": TARGET, "measured": None, "note": "not measured yet"},
        "variants": variants,
    }
    for name, each in variants.items():
        print(f"{name}: {each['multiplied'] / each['useful']:.3f} of the useful operations are multiplied, "
              f"at best {each['step_s_at_best']:.3f} s and {100 * each['utilization_at_best']:.0f} %, "
              f"{each['planned_gib']:.0f} GiB planned")  # fmt: skip
    write_json(arguments.json or RESULTS / f"dry_profile_{arguments.model}.json", report)


def whole_last_layer(gemma, x, positions, mask, *, in_place=False):
    """Runs the language expert with all of its last layer, of which only keys and values are read."""
    return gemma([x, None], positions, mask)[1]


def variant(arguments: argparse.Namespace, cameras: int, remat: bool | str) -> dict:
    """Returns the counts of a model with a number of cameras, and what of it is recomputed."""
    config = presets.with_cameras(presets.preset(arguments.model), cameras)
    config = dataclasses.replace(config, remat=remat)
    train = TrainConfig(batch=arguments.batch)
    found = products(jax.grad(partial(loss, config)), *shapes(config, arguments.batch))
    useful, multiplied = step_flops(config, train), sum(product.operations for product in found)
    groups: dict = defaultdict(list)
    for product in found:
        groups[f"{part(product.scope)}, {work(product.scope)}"].append(product)
    rows = {name: row(group, arguments) for name, group in sorted(groups.items())}
    traffic = {name: size / arguments.bandwidth for name, size in memory_traffic(config, arguments.batch).items()}
    seconds = sum(each["seconds_at_best"] for each in rows.values()) + sum(traffic.values())
    return {
        "useful": useful,
        "multiplied": multiplied,
        "recomputed_share": sum(p.operations for p in found if work(p.scope) == "recomputed") / multiplied,
        "products": rows,
        "traffic_seconds": traffic,
        "step_s_at_best": seconds,
        "utilization_at_best": useful / seconds / (peak_flops(arguments.device) or arguments.rate),
        "planned_gib": memory_plan(config, train).total / GIB,
    }


def loss(config: VlaConfig, params, *inputs):
    """Returns the mean loss of a batch."""
    return jnp.mean(pi0.flow_loss(config, params, *inputs))


def shapes(config: VlaConfig, batch: int):
    """Returns the shapes of parameters and inputs of a training step."""

    def arrays():
        actions = jnp.zeros((batch, config.horizon, config.action_size))
        params = pi0.init(config, jax.random.key(0))
        return params, pi0.example_inputs(config, batch), actions, actions[None], jnp.zeros((1, batch))

    return jax.eval_shape(arrays)


def part(scope: str) -> str:
    """Returns the part of the model that a product belongs to."""
    if "->" in scope:
        return "attention scores of images" if "Transformer" in scope else "attention scores of both experts"
    if "/img/" in scope:
        return "image encoder"
    return "language expert" if "keys_and_values" in scope or "run_prefix" in scope else "action expert"


def work(scope: str) -> str:
    """Returns the pass that a product belongs to."""
    if "rematted_computation" in scope:
        return "recomputed"
    return "backward" if "transpose(" in scope else "forward"


def row(group: list[Product], arguments: argparse.Namespace) -> dict:
    """Returns what a group of products takes at best."""
    total = sum(product.operations for product in group)
    short = sum(p.operations for p in group if min(p.rows, p.columns, p.terms) < SHORT)
    each = [max(p.operations / arguments.rate, p.count * p.bytes / arguments.bandwidth) for p in group]
    return {
        "operations": total,
        "share_with_a_short_side": short / total,
        "calls": sum(p.count for p in group),
        "seconds_at_best": sum(each),
        "seconds_of_memory": sum(each) - total / arguments.rate,
    }


def memory_traffic(config: VlaConfig, batch: int) -> dict[str, float]:
    """Returns bytes that are read and written beside products."""
    params = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(partial(pi0.init, config), jax.random.key(0))))
    prefix, suffix = config.prefix_tokens, config.horizon + (config.family == "pi0")
    scores = config.depth * config.heads * (prefix**2 + suffix * (prefix + suffix)) * 4.0
    images = len(config.cameras) * config.vision.depth * config.vision.heads * config.image_tokens**2 * 2.0
    return {
        # Parameters, both moments and the average are read and written in float32; gradients are read twice.
        "optimizer and average": params * (4 * 8 + 2 * 2),
        "parameters cast once": params * (4 + 2),
        "attention scores": batch * (scores + images) * SCORE_PASSES,
    }


if __name__ == "__main__":
    main()
