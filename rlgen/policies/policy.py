"""What PPO, behaviour cloning and actors know of a policy."""

from typing import Any, Literal, Protocol

from flax import struct
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, UInt8

from rlgen.policies.normalizer import Normalizer

Params = dict[str, Any]
Code = Float[Array, "B C"]


@struct.dataclass
class Sight:
    """What a policy with eyes is shown.

    Attributes:
      pictures: of each camera V, bytes.
      vector: the robot's own state, then proprioception and object poses; a policy reads only the former, and a
        critic may read all, since it is not needed when acting.
    """

    pictures: UInt8[Array, "*B V h w 3"]
    vector: Float[Array, "*B P+O"]


# A vector, or a `Sight`.
Observed = PyTree


@struct.dataclass
class PolicySample:
    """What a rollout needs of a sampled chunk, and what the update needs.

    Attributes:
      chunk: actions to command, in [-1, 1].
      chain: every point of the walk, normalised and unclamped, noisiest first.
      log_prob: log density of each transition, for each number, not clamped.
    """

    chunk: Float[Array, "B H A"]
    chain: Float[Array, "B K+1 H A"]
    log_prob: Float[Array, "B K H A"]


class Policy(Protocol):
    """A policy over chunks that come about in K random transitions; a Gaussian one has a single one.

    Parameters are a dictionary: `net`, which is trained, `normalizer`, which is not, and `base`, the frozen network
    that walks the chain as far as it is not trained, where PPO has begun and there is such a part.
    """

    horizon: int
    action_size: int

    @property
    def chain_steps(self) -> int:
        """K, the transitions that are trained."""

    @property
    def clamp(self) -> Literal["each", "mean"]:
        """Whether each number's log density is clamped, or their mean."""

    @property
    def encodes(self) -> bool:
        """Whether making a code is so dear that it should be made once an observation."""

    def init(self, key: PRNGKeyArray, normalizer: Normalizer | None = None) -> Params:
        """Fresh parameters."""

    def encode(self, params: Params, observation: Observed) -> Code:
        """What the trunk is conditioned on, and what a critic may read."""

    def augment(self, key: PRNGKeyArray, observation: Observed, shift: int | None = None) -> Observed:
        """Pictures shifted at random."""

    def sample(self, params: Params, key: PRNGKeyArray, observation: Observed) -> PolicySample:
        """A chunk for each observation with exploration, and how it came about."""

    def sample_from(self, params: Params, key: PRNGKeyArray, code: Code) -> PolicySample:
        """The same from codes."""

    def act_from(self, params: Params, key: PRNGKeyArray | None, code: Code) -> Float[Array, "B H A"]:
        """A chunk for each code without exploration, in [-1, 1]."""

    def log_prob(
        self,
        params: Params,
        observation: Observed,
        chain_prev: Float[Array, "B H A"],
        chain_next: Float[Array, "B H A"],
        index: Int[Array, " B"],
    ) -> Float[Array, "B H A"]:
        """Log density of a transition at position `index`, for each number, not clamped."""

    def log_prob_from(
        self,
        params: Params,
        code: Code,
        chain_prev: Float[Array, "B H A"],
        chain_next: Float[Array, "B H A"],
        index: Int[Array, " B"],
    ) -> Float[Array, "B H A"]:
        """The same from codes."""

    def entropy(self, params: Params, code: Code) -> Float[Array, ""]:
        """Mean entropy of a number; 0 where it does not depend on parameters."""

    def bc_loss(
        self, params: Params, key: PRNGKeyArray, observation: Observed, chunk: Float[Array, "B H A"]
    ) -> Float[Array, ""]:
        """Loss of behaviour cloning."""
