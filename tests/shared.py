"""Where the shared reference material lies, when it is there."""

import os
from pathlib import Path

import pytest


def shared_dir() -> Path:
    """The folder `shared` beside the checkout (or `RLGEN_SHARED`); skips the test where there is none."""
    folder = Path(os.environ.get("RLGEN_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not folder.is_dir():
        # Also while tests are being collected, for the cases that are named in the files themselves.
        pytest.skip("the shared reference material is not beside the checkout", allow_module_level=True)
    return folder
