"""Checks of annotated arrays while tests run: a wrong shape or type of an argument or a result is an error.

`conftest.py` has functions of `CHECKED` decorated as they are imported. Fields of dataclasses are not checked: JAX
builds them of whatever a transformation maps over, such as shapes, shardings and stacked leaves.
"""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

CHECKED = ("rlgen.diffusion", "rlgen.nets", "rlgen.policies", "rlgen.rl")
# An int is a float, as type checkers have it (PEP 484).
_BEARTYPE = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `function` with its arguments and result checked; constructors are returned as they are."""
    return function if function.__name__ == "__init__" else _BEARTYPE(function)


def check_arrays() -> None:
    """Has the modules of `CHECKED` checked that are imported from here on."""
    install_import_hook(CHECKED, "array_types.check")
