"""Where the shared reference material lies, when it is there."""

import os
from pathlib import Path

import pytest

# `.ci/run` counts skipped tests by these words.
ABSENT = "the shared reference material is not beside the checkout"


def shared_dir(inside: str = "") -> Path:
    """The folder `shared` beside the checkout (or `RLGEN_SHARED`), or what is `inside`; skips where there is none.

    A folder that is there without what belongs into it is an error: the tests that read it would check nothing.
    """
    root = Path(os.environ.get("RLGEN_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if not root.is_dir():
        # Also while tests are being collected, for the cases that are named in the files themselves.
        pytest.skip(ABSENT, allow_module_level=True)
    for part in dict.fromkeys(("golden", inside)):
        if not (root / part).exists():
            raise FileNotFoundError(f"{root} has no {part}: RLGEN_SHARED names the folder of the reference material")
    return root / inside
