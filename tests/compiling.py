"""Compiling takes most of the time of many tests, whose programs run for moments: for these it does not optimize.

Without optimizations sums differ in the last digits, so what was compiled so is forgotten before other tests run: they
would get it for the functions that both call.
"""

import sys
from functools import cache

# Folders and files below `tests`: training, models, policies, solvers, convolutions beside the definition of one, and
# functions of the accelerator's world by what they do.
# What is held to the numbers of another implementation (`goldens.COMPARED`) is compiled as users' programs are, in
# whichever folder it is.
QUICKLY = (
    "bench/",
    "diffusion/test_solvers.py",
    "pipeline/",
    "vla/",
    *(f"nets/test_{name}.py" for name in ("conv1d", "conv2d", "dtypes")),
    "test_guides.py",
    *(
        f"libero/warp/test_{name}.py"
        for name in ("arm", "controller", "double", "goals", "kinematics", "observation", "rotations")
    ),
    *(f"rl/test_{name}.py" for name in ("accumulate", "bc", "device", "numerics", "population", "ppo")),
    *(f"policies/test_{name}.py" for name in ("critic", "diffusion_policy", "vision")),
)
SETTING = "jax_disable_most_optimizations"
# The newer of XLA's two code generators for CPUs takes twice the time of the older one where neither optimizes.
OPTIONS = {"xla_cpu_use_fusion_emitters": False}


@cache
def code_generator() -> dict[str, bool]:
    """Returns `OPTIONS` where XLA has the older code generator, and none where it has the newer one alone."""
    import jax

    try:
        jax.jit(lambda x: x + 1, compiler_options=OPTIONS).lower(1.0).compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return OPTIONS


def compile_quickly(quickly: bool) -> None:
    """Has JAX compile with or without optimizations from here on."""
    if not quickly and "jax" not in sys.modules:
        return
    import jax

    before = jax.config.read(SETTING)
    if before == quickly:
        return
    jax.config.update(SETTING, quickly)
    if quickly:
        _choose_code_generator()
    else:
        jax.clear_caches()


def _choose_code_generator() -> None:
    """Has `code_generator` hold wherever `SETTING` does; JAX has no setting of its own for them."""
    import jax
    from jax._src import compiler

    if hasattr(compiler, "rlgen_tests") or not code_generator():
        return
    make_options = compiler.get_compile_options

    def make(*args, **changes):
        options = make_options(*args, **changes)
        if jax.config.read(SETTING):
            options.env_option_overrides = [*code_generator().items(), *options.env_option_overrides]
        return options

    compiler.get_compile_options, compiler.rlgen_tests = make, True
