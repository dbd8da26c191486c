"""Types of arrays."""

import numpy as np
from jaxtyping import Array

AnyArray = Array | np.ndarray
"""An array that JAX computes with: its own arrays, or NumPy's, as chains, normalizers and loaded parameters are."""
