"""Functions compiled by Numba, kept in the cache where there is one."""

import os
from collections.abc import Callable
from typing import Any

from rlgen.core.process import name_numba_cache


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Returns a decorator that compiles a function with Numba when it is first called, to run without Python's lock.

    What is compiled is kept below the cache folder. Where neither that nor any other folder that Numba looks for can be
    written, every process compiles anew.

    Args:
      **options: of `numba.njit`.
    """
    name_numba_cache()
    from numba import config, njit

    # Whoever has imported Numba before has made it read its variables before.
    settings: Any = config
    settings.CACHE_DIR = settings.CACHE_DIR or os.environ.get("NUMBA_CACHE_DIR", "")

    def compile_function(function: Callable[..., Any]) -> Any:
        try:
            return njit(function, nogil=True, cache=True, **options)
        except RuntimeError:  # "no locator available": it cannot write anywhere
            return njit(function, nogil=True, **options)

    return compile_function


def wide_vectors() -> Any:
    """Returns a statement, for compiled functions, by which one uses vectors of 512 bits where the processor has them.

    LLVM prefers 256 bits, because processors of before 2021 slow down for a while after longer ones. Each function that
    has a loop needs it, called ones too.
    """
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def prefer(context: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            attributes = builder.function.attributes
            if isinstance(attributes, set):  # which llvmlite lets pass only what it knows itself
                set.add(attributes, '"prefer-vector-width"="512"')
            return context.get_dummy_value()

        return types.void(), generate

    return prefer
