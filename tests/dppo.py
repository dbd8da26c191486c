"""Numbers of an independent implementation of diffusion PPO, its stub networks, and how far it rounds.

The reference computed in single precision. `in_both` runs ours as users do, compiled and in single precision, and in
double precision; `agree` then says what is rounding: the exact numbers are as near to the reference's as its README
found its own exact ones, and ours in single precision are at most twice as far from ours.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from compiling import code_generator
from goldens import Arrays
from shared import shared_dir

from rlgen.diffusion.schedules import Chain, Schedule, cosine_schedule, ddim_chain, ddpm_chain

FOLDER = "dppo/public"


def stated(number: float) -> float:
    """The largest number that is stated as `number`, which has one or two digits."""
    digits, _, exponent = f"{number:.12g}".partition("e")
    decimals = len(digits.partition(".")[2])
    return (float(digits) + 0.5 * 10**-decimals) * 10.0 ** int(exponent or 0)


class Rounding(NamedTuple):
    """How far the reference in single precision is from itself in double precision.

    Attributes:
      same: with the noise schedule of single precision in both.
      own: with a schedule of double precision there.
    """

    same: float
    own: float


# By the README of the reference: relative to the largest entry for networks and gradients, else absolute.
CHAINS = Rounding(stated(1e-6), stated(4e-6))
LOG_PROBS = {
    0.1: Rounding(stated(9e-6), stated(1.1e-4)),  # down to -57
    0.01: Rounding(stated(3e-4), stated(1.3e-2)),  # down to -920
}
POLICY_LOSS = Rounding(stated(1e-7), stated(6e-7))
RATIO = Rounding(stated(1e-7), stated(2e-6))
VALUE_LOSS = Rounding(stated(2e-7), stated(2e-7))
APPROX_KL = Rounding(stated(7e-9), stated(2e-8))
LOSS_GRADIENTS = Rounding(stated(2e-6), stated(1.3e-5))
OUTPUTS, GRADIENTS = stated(1e-6), stated(4e-6)
# Sums are taken in another order in every library, on every processor.
OURS = 2


def log_prob_rounding(sigma: float) -> Rounding:
    """Of log densities at a standard deviation."""
    return LOG_PROBS[0.1] if sigma >= 0.1 else LOG_PROBS[0.01]


def load(name: str) -> Arrays:
    """All arrays of one file."""
    return Arrays(f"{FOLDER}/{name}.npz")


def files(pattern: str) -> list[str]:
    """Names of the files that match a pattern, of which there is at least one."""
    folder = shared_dir(f"golden/{FOLDER}")
    found = sorted(path.stem for path in folder.glob(f"{pattern}.npz"))
    if not found:
        raise FileNotFoundError(f"no {pattern}.npz in {folder}")
    return found


def config(arrays: Mapping[str, np.ndarray], path: str = "config") -> dict:
    """A stored configuration."""
    return json.loads(str(arrays[path]))


def cases(name: str, marker: str) -> list[str]:
    """Names of the cases that hold `marker`, of which there is at least one."""
    found = sorted({key.split("/")[0] for key in load(name) if key.split("/")[1:2] == [marker]})
    if not found:
        raise KeyError(f"no case of {name} has {marker}")
    return found


def stub(weights, state):
    """The linear stub network: a function of a chunk and a training timestep (one, or one a sample)."""
    flat_state = jnp.asarray(state).reshape(len(state), -1)

    def predict(x, timestep):
        time = jnp.sin(jnp.asarray(timestep, weights["w"].dtype)[..., None] * weights["w"])
        flat = x.reshape(x.shape[0], -1) @ weights["W"].T + weights["b"] + flat_state @ weights["C"].T + time
        return flat.reshape(x.shape)

    return predict


# Networks of double precision are only compared with: compiled in the shortest time.
_QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def single(function: Callable, *inputs) -> Any:
    """What a function of pytrees of arrays gives users: compiled, in single precision."""
    return jax.jit(function)(*_cast(inputs, np.float32))


def exact(function: Callable, *inputs) -> Any:
    """What a function of pytrees of arrays gives in double precision."""
    with jax.enable_x64(True):
        result = jax.jit(function, compiler_options=_QUICKLY | code_generator())(*_cast(inputs, np.float64))
        return jax.tree.map(np.asarray, result)


def in_both(function: Callable, *inputs) -> tuple[Any, Any]:
    """`single` and `exact`."""
    return single(function, *inputs), exact(function, *inputs)


def _cast(tree, dtype):
    def cast(array):
        array = np.asarray(array)
        return array.astype(dtype) if np.issubdtype(array.dtype, np.floating) else array

    return jax.tree.map(cast, tree)


def near(ours, want, tolerance: float, name: str = "", *, relative: bool = False) -> None:
    """Compares two arrays, absolutely or relative to the largest entry of the second."""
    ours, want = np.asarray(ours, np.float64), np.asarray(want, np.float64)
    assert ours.shape == want.shape, f"{name}: {ours.shape}, expected {want.shape}"
    allowed = tolerance * np.abs(want).max() if relative else tolerance
    difference = np.abs(ours - want).max()
    assert difference <= allowed, f"{name}: off by {difference:.2g}, allowed {allowed:.2g}"


def agree(rounded, precise, want, tolerance: float, name: str = "", *, relative: bool = False) -> None:
    """Compares exact numbers with the reference's, and ours in single precision with the exact ones.

    Args:
      rounded: ours in single precision.
      precise: ours in double precision.
      want: the reference's.
      tolerance: how far the reference's single precision is off.
      name: said when they differ.
      relative: relative to the largest entry.
    """
    near(precise, want, tolerance, f"{name}, the reference's", relative=relative)
    near(rounded, precise, OURS * tolerance, f"{name}, of single precision", relative=relative)


class ChainCase(NamedTuple):
    """A denoising chain by the name of a case: `ddpm20_ft10`, `ddim5_ft3`, `ddim5of100_eta0.5`.

    Attributes:
      kind: `ddpm` or `ddim`.
      steps: length n.
      train_steps: length K of the noise schedule.
      eta: of DDIM.
      tuned: last steps that are fine-tuned; 0 where the name has none.
    """

    kind: str
    steps: int
    train_steps: int
    eta: float
    tuned: int

    @classmethod
    def of(cls, name: str) -> "ChainCase":
        """The chain that a name stands for."""
        parts = re.fullmatch(r"(ddim|ddpm)(\d+)(?:of(\d+))?(?:_eta(\d+(?:\.\d+)?))?(?:_ft(\d+))?", name)
        if parts is None:
            raise ValueError(f"{name}: no chain")
        kind, steps, of, eta, tuned = parts.groups()
        train_steps = int(steps) if kind == "ddpm" else int(of or _longest_schedule())
        return cls(kind, int(steps), train_steps, 1.0 if eta is None else float(eta), int(tuned or 0))

    @property
    def schedule(self) -> Schedule:
        """Its noise schedule."""
        return cosine_schedule(self.train_steps)

    def chain(self) -> Chain:
        """Our chain."""
        return ddpm_chain(self.schedule) if self.kind == "ddpm" else ddim_chain(self.schedule, self.steps, self.eta)

    def saved(self) -> Chain:
        """The chain in double precision that the reference's numbers of single precision are."""
        return _saved_ddpm(self.schedule) if self.kind == "ddpm" else _saved_ddim(self.schedule, self.steps, self.eta)

    def still(self) -> "ChainCase":
        """The chain of deterministic mode; ancestral sampling has no eta."""
        return self._replace(eta=0.0) if self.kind == "ddim" else self


@cache
def _longest_schedule() -> int:
    """K of chains whose name does not say it: that of the longest schedule."""
    return max(int(key[1:].split("/")[0]) for key in load("01_schedules") if re.match(r"K\d+/", key))


def ddpm_numbers(schedule: Schedule, dtype) -> dict[str, np.ndarray]:
    """The reference's coefficients of ancestral sampling, by its names and index of the timestep.

    Args:
      schedule: of K steps.
      dtype: in which they are computed.
    """
    beta, signal, cleaner = (np.asarray(a, dtype) for a in (schedule.beta, schedule.alpha_bar, schedule.alpha_bar_prev))
    one = dtype(1)
    variance = beta * (one - cleaner) / (one - signal)
    return {
        "alphas": one - beta,
        "sqrt_alphas_cumprod": np.sqrt(signal),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(one - signal),
        "sqrt_recip_alphas_cumprod": np.sqrt(one / signal),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(one / signal - one),
        "ddpm_var": variance,
        "ddpm_logvar_clipped": np.log(np.maximum(variance, dtype(1e-20))),
        "ddpm_mu_coef1": beta * np.sqrt(cleaner) / (one - signal),
        "ddpm_mu_coef2": (one - cleaner) * np.sqrt(one - beta) / (one - signal),
    }


def ddim_numbers(schedule: Schedule, steps: int, eta: float, dtype) -> dict[str, np.ndarray]:
    """The reference's coefficients of DDIM, by its names, noisiest first.

    Args:
      schedule: of K steps.
      steps: n.
      eta: of the fine-tuning model, whose standard deviation is never 0.
      dtype: in which they are computed.
    """
    one, timesteps = dtype(1), schedule.steps // steps * np.arange(steps)[::-1]
    signal = np.asarray(schedule.alpha_bar, dtype)[timesteps]
    cleaner = np.concatenate([signal[1:], np.ones(1, dtype)])
    sigma = np.maximum(dtype(eta) * np.sqrt((one - cleaner) / (one - signal) * (one - signal / cleaner)), dtype(1e-10))
    return {
        "timesteps": timesteps,
        "alphas": signal,
        "alphas_prev": cleaner,
        "sqrt_one_minus_alphas": np.sqrt(one - signal),
        "sigmas": sigma,
        "dir_coef": np.sqrt(np.maximum(one - cleaner - sigma**2, dtype(0))),
        "logvar": np.log(sigma**2),
        "eta": np.full(steps, eta, dtype),
    }


def _saved(case: str, computed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The reference's own arrays in double precision, or the computed ones of those that it has not stored."""
    stored = load("01_schedules").below(case)
    return {name: stored.get(name, array).astype(np.float64) for name, array in computed.items()}


def _saved_ddpm(schedule: Schedule) -> Chain:
    found = _saved(f"K{schedule.steps}", ddpm_numbers(schedule, np.float32))
    numbers = {name: array[::-1] for name, array in found.items()}
    return ddpm_chain(schedule).replace(
        sigma=np.exp(0.5 * numbers["ddpm_logvar_clipped"]),
        x0_from_x=numbers["sqrt_recip_alphas_cumprod"],
        x0_from_output=-numbers["sqrt_recipm1_alphas_cumprod"],
        coef_x0=numbers["ddpm_mu_coef1"],
        coef_x=numbers["ddpm_mu_coef2"],
    )


def _saved_ddim(schedule: Schedule, steps: int, eta: float) -> Chain:
    # The schedule's arrays are stored as numbers of single precision; what depends on eta is computed at each call.
    computed = ddim_numbers(schedule, steps, eta, np.float32)
    schedules = {name: computed[name] for name in ("alphas", "alphas_prev", "sqrt_one_minus_alphas")}
    signal, cleaner, std = _saved(f"ddim{steps}of{schedule.steps}", schedules).values()
    sigma = np.maximum(eta * np.sqrt((1 - cleaner) / (1 - signal) * (1 - signal / cleaner)), 1e-10 if eta else 0)
    direction = np.sqrt(np.maximum(1 - cleaner - sigma**2, 0))
    return ddim_chain(schedule, steps, eta).replace(
        sigma=sigma,
        x0_from_x=1 / np.sqrt(signal),
        x0_from_output=-std / np.sqrt(signal),
        coef_x0=np.sqrt(cleaner) - direction / std * np.sqrt(signal),
        coef_x=direction / std,
    )
