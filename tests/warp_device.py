"""Marks for tests that launch kernels of MuJoCo Warp, on a GPU or on Warp's CPU device."""

import pytest

from rlgen.libero.warp.device import why_absent

REASON = why_absent()
needs_warp = pytest.mark.skipif(REASON is not None, reason=f"MuJoCo Warp is not here: {REASON}")
