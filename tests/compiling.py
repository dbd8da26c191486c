"""Compiling takes most of the time of many tests, whose programs run for moments: for these it does not optimize.

Without optimizations sums differ in the last digits, so what was compiled so is forgotten before other tests run: they
would get it for the functions that both call.
"""

import sys

# Folders and files below `tests`: training, models and policies by what they do. What is held to the numbers of another
# implementation is better off among the others.
QUICKLY = (
    "pipeline/",
    "vla/",
    *(f"rl/test_{name}.py" for name in ("bc", "numerics", "population", "ppo")),
    *(f"policies/test_{name}.py" for name in ("critic", "diffusion_policy", "vision")),
)
SETTING = "jax_disable_most_optimizations"


def compile_quickly(quickly: bool) -> None:
    """Has JAX compile with or without optimizations from here on."""
    if not quickly and "jax" not in sys.modules:
        return
    import jax

    before = jax.config.read(SETTING)
    jax.config.update(SETTING, quickly)
    if before and not quickly:
        jax.clear_caches()
