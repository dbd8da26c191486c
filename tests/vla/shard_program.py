"""Trains a toy model on one device and on all of this process, or on those of two; started by `test_sharding`.

shard_program.py ONE MANY trains in ONE on one device, and in MANY for two steps on all.
shard_program.py MANY COORDINATOR PROCESSES PROCESS goes on in MANY.
"""

import sys
from pathlib import Path

import jax
from jax.sharding import Mesh

from rlgen.training import sharding
from rlgen.vla.data.normalize import mixture_statistics
from rlgen.vla.data.spec import InputSpec
from rlgen.vla.training.train import LoopOptions, train_model

# Toy parameters are small; cut whatever can be cut.
sharding.MIN_BYTES = 0


def train(out: Path, mesh: Mesh, stop: int | None = None) -> None:
    """Trains to the end, or leaves with `SystemExit` after step `stop`."""
    # Importing it makes arrays, which takes the devices.
    from vla.toy import CONFIG, dot_episodes, train_like

    from rlgen.data.frames import frames_from_episodes
    from rlgen.data.loader import Mixture, hold_out

    settings = train_like(steps=4, batch=16, accumulate=2, draws=1, warmup=1, shift=1)
    kept, held = hold_out(frames_from_episodes(dot_episodes(40, seed=0), size=CONFIG.image_size), 0.2, seed=0)

    def log(line: str) -> None:
        print(mesh.size, line, flush=True)
        if line.startswith(f"step {stop} of"):
            raise SystemExit

    def on_block(block) -> None:
        leaves = jax.tree.leaves(block.state.trained)
        cut = [leaf for leaf in leaves if not leaf.is_fully_replicated]
        print("cut", len(cut), "of", len(leaves), flush=True)

    train_model(
        out,
        CONFIG,
        InputSpec(),
        settings,
        Mixture((kept,)),
        mixture_statistics(Mixture((kept,)), CONFIG.horizon, delta=False),
        held_out=Mixture((held,)),
        mesh=mesh,
        workers=1,
        options=LoopOptions(log_every=1, checkpoint_every=1, validate_every=1, validate_frames=16),
        log=log,
        on_block=on_block,
    )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        train(Path(sys.argv[1]), sharding.make_mesh(devices=jax.devices()[:1]))
        train(Path(sys.argv[2]), sharding.make_mesh(4), stop=2)
    else:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(sys.argv[2], *map(int, sys.argv[3:]))
        train(Path(sys.argv[1]), sharding.make_mesh(2))
