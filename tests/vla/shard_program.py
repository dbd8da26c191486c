"""Trains a toy model on the devices of this process, or of two; started by `test_sharding`.

shard_program.py OUT FSDP STOP [COORDINATOR PROCESSES PROCESS]
"""

import sys
from pathlib import Path

import jax

from rlgen.training import sharding
from rlgen.vla.data.normalize import mixture_statistics
from rlgen.vla.data.spec import InputSpec
from rlgen.vla.training.train import LoopOptions, train_model

# Toy parameters are small; cut whatever can be cut.
sharding.MIN_BYTES = 0


def main(out: Path, fsdp: int, stop: int, coordinator: str | None, processes: int, process: int) -> None:
    if coordinator is not None:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(coordinator, processes, process)
    from vla.toy import CONFIG, dot_episodes, train_like

    from rlgen.data.frames import frames_from_episodes
    from rlgen.data.loader import Mixture, hold_out

    train = train_like(steps=4, batch=16, accumulate=2, draws=1, warmup=1, shift=1)
    kept, held = hold_out(frames_from_episodes(dot_episodes(40, seed=0), size=CONFIG.image_size), 0.2, seed=0)

    def log(line: str) -> None:
        print(jax.device_count(), line, flush=True)
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
        train,
        Mixture((kept,)),
        mixture_statistics(Mixture((kept,)), CONFIG.horizon, delta=False),
        held_out=Mixture((held,)),
        mesh=sharding.make_mesh(fsdp),
        workers=1,
        options=LoopOptions(log_every=1, checkpoint_every=1, validate_every=1, validate_frames=16),
        log=log,
        on_block=on_block,
    )


if __name__ == "__main__":
    argv = sys.argv[1:]
    distributed = (argv[3], int(argv[4]), int(argv[5])) if len(argv) > 3 else (None, 1, 0)
    main(Path(argv[0]), int(argv[1]), int(argv[2]), *distributed)
