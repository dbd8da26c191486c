"""What PPO, behaviour cloning and actors know of a policy."""

from abc import ABC, abstractmethod
from typing import Any, Literal

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

    images: UInt8[Array, "*B V h w 3"]
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


class Policy(ABC):
    """A policy over chunks that come about in K random transitions; a Gaussian one has a single one.

    Parameters are a dictionary: `net`, which is trained, `normalizer`, which is not, and `base`, the frozen network
    that walks the chain as far as it is not trained, where PPO has begun and there is such a part.

    What asks for a code is there for those who look once and ask several times; the same from observations follows.
    """

    horizon: int
    action_size: int

    @property
    @abstractmethod
    def chain_steps(self) -> int:
        """K, the transitions that are trained."""

    @property
    @abstractmethod
    def clamp(self) -> Literal["each", "mean"]:
        """Whether each number's log density is clamped, or their mean."""

    @property
    @abstractmethod
    def encodes(self) -> bool:
        """Whether making a code is so dear that it should be made once an observation."""

    @abstractmethod
    def init(self, key: PRNGKeyArray, normalizer: Normalizer | None = None) -> Params:
        """Fresh parameters."""

    @abstractmethod
    def encode(self, params: Params, observation: Observed) -> Code:
        """What the trunk is conditioned on, and what a critic may read."""

    @abstractmethod
    def augment(self, key: PRNGKeyArray, observation: Observed, shift: int | None = None) -> Observed:
        """Pictures shifted at random, each by up to `shift` pixels; vectors as they are."""

    @abstractmethod
    def sample_from(self, params: Params, key: PRNGKeyArray | None, code: Code, noise: Any = None) -> PolicySample:
        """A chunk for each code with exploration, and how it came about.

        Args:
          params: parameters.
          key: randomness; not read where `noise` is given.
          code: of observations.
          noise: what is drawn from the key otherwise, in the policy's own form.
        """

    @abstractmethod
    def act_from(self, params: Params, key: PRNGKeyArray | None, code: Code) -> Float[Array, "B H A"]:
        """A chunk for each code without exploration, in [-1, 1]; None as key starts chains from zeros."""

    @abstractmethod
    def log_prob_from(
        self,
        params: Params,
        code: Code,
        chain_prev: Float[Array, "B H A"],
        chain_next: Float[Array, "B H A"],
        index: Int[Array, " B"],
    ) -> Float[Array, "B H A"]:
        """Log density of a transition at position `index` of the trained part, for each number, not clamped."""

    @abstractmethod
    def entropy(self, params: Params, code: Code) -> Float[Array, ""]:
        """Mean entropy of a number; 0 where it does not depend on parameters."""

    @abstractmethod
    def bc_loss(
        self, params: Params, key: PRNGKeyArray, observation: Observed, chunk: Float[Array, "B H A"]
    ) -> Float[Array, ""]:
        """Loss of behaviour cloning on chunks of commanded actions."""

    def sample(
        self, params: Params, key: PRNGKeyArray | None, observation: Observed, noise: Any = None
    ) -> PolicySample:
        """`sample_from` of raw observations."""
        return self.sample_from(params, key, self.encode(params, observation), noise)

    def act(self, params: Params, key: PRNGKeyArray | None, observation: Observed) -> Float[Array, "B H A"]:
        """`act_from` of raw observations."""
        return self.act_from(params, key, self.encode(params, observation))

    def log_prob(
        self,
        params: Params,
        observation: Observed,
        chain_prev: Float[Array, "B H A"],
        chain_next: Float[Array, "B H A"],
        index: Int[Array, " B"],
    ) -> Float[Array, "B H A"]:
        """`log_prob_from` of raw observations."""
        return self.log_prob_from(params, self.encode(params, observation), chain_prev, chain_next, index)
