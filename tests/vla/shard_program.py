"""Trains a toy model on the devices of this process, or of two; started by `test_sharding`.

shard_program.py OUT FSDP STOP [COORDINATOR PROCESSES PROCESS]
"""

import sys
from pathlib import Path

import jax

from rlgen.training import sharding
from rlgen.vla.training import fine_tune

# Toy parameters are small; cut whatever can be cut.
sharding.MIN_BYTES = 0


def main(out: Path, fsdp: int, stop: int, coordinator: str | None, processes: int, process: int) -> None:
    if coordinator is not None:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(coordinator, processes, process)
    from vla.toy import CONFIG, dot_episodes, pipeline_for, train_like

    from rlgen.vla.data.frames import from_rlds
    from rlgen.vla.data.mixture import Mixture, hold_out
    from rlgen.vla.training.config import FineTune
    from rlgen.vla.training.loop import Job

    train = train_like(steps=4, batch=16, accumulate=2, draws=1, warmup=1, shift=1)
    kept, held = hold_out(from_rlds(dot_episodes(40, seed=0), CONFIG.image_size), 0.2, seed=0)
    mixture = Mixture((kept,))
    job = Job(CONFIG, train, pipeline_for(CONFIG, mixture), mixture, sharding.make_mesh(fsdp))
    config = FineTune(
        log_every=1, checkpoint_every=1, validate_every=1, validate_frames=16, fsdp=fsdp, train=train, threads=1
    )

    def tell(line: str) -> None:
        print(jax.device_count(), line, flush=True)
        if line.startswith(f"step {stop} of"):
            raise SystemExit

    state = fine_tune.train(config, job, Mixture((held,)), out, tell)
    cut = [leaf for leaf in jax.tree.leaves(state.trained) if not leaf.is_fully_replicated]
    print("cut", len(cut), "of", len(jax.tree.leaves(state.trained)), flush=True)


if __name__ == "__main__":
    words = sys.argv[1:]
    distributed = (words[3], int(words[4]), int(words[5])) if len(words) > 3 else (None, 1, 0)
    main(Path(words[0]), int(words[1]), int(words[2]), *distributed)
