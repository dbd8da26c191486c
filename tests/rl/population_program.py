"""Iterates experts over all devices of this process and on one of them, and compares; for `test_population`."""

import numpy as np
from rl.test_population import SEEDS, assert_close, expert, start

from rlgen.rl.population import expert_mesh, iterate_population


def main() -> None:
    """Prints over how many devices the experts were divided."""
    experts = [expert(start(seed), seed) for seed in (*SEEDS, 9)]
    mesh = expert_mesh(len(experts))
    assert mesh is not None
    for vectorized in (True, False):
        pairs = zip(*(iterate_population(experts, where, vectorized=vectorized) for where in (mesh, None)), strict=True)
        for (found, metrics), (alone, expected) in pairs:
            assert_close(found, alone)
            for name in ("success", "control_steps", "value_loss"):
                np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-5)
    print(f"{len(experts)} experts on {mesh.size} devices")


if __name__ == "__main__":
    main()
