"""The interface of a policy over action chunks: what cloning, PPO and acting use of it."""

from abc import ABC, abstractmethod
from typing import Any, Literal

from flax import struct
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from rlgen.policies.normalizer import Normalizer

Params = dict[str, Any]
Features = Float[Array, "B C"]
# A vector `[B, O]`, or an `ImageObservation`.
PolicyObservation = PyTree


@struct.dataclass
class PolicySample:
    """A sampled chunk, and how it came about.

    Attributes:
      chunk: actions to execute, in [-1, 1].
      chain: every point of the denoising chain, normalized and unclamped, noisiest first.
      log_prob: log density of each transition, for each entry of the chunk, not clamped.
    """

    chunk: Float[Array, "B H A"]
    chain: Float[Array, "B K+1 H A"]
    log_prob: Float[Array, "B K H A"]


class Policy(ABC):
    """A policy over chunks that come about in K random transitions; a Gaussian one has a single transition.

    Parameters are a dictionary: `net`, which is trained; `normalizer`, which is not; and `base`, the frozen network
    that takes the steps of the chain that are not trained, where PPO has begun and there are such steps.

    Methods whose names end in `_from` take features, for callers that encode an observation once and use it several
    times; those without take raw observations.
    """

    @property
    @abstractmethod
    def horizon(self) -> int:
        """H, actions in a chunk."""

    @property
    @abstractmethod
    def num_trained_steps(self) -> int:
        """K, the transitions that are trained."""

    @property
    @abstractmethod
    def clamp(self) -> Literal["each", "mean"]:
        """`each` where the log density of each entry of a chunk is clamped, `mean` where their mean is."""

    @property
    @abstractmethod
    def has_images(self) -> bool:
        """True where it observes images, so that encoding is expensive and should be done once an observation."""

    @abstractmethod
    def init(self, key: PRNGKeyArray, normalizer: Normalizer | None = None) -> Params:
        """Returns fresh parameters; without a normalizer observations and actions are used as they are."""

    @abstractmethod
    def encode(self, params: Params, observation: PolicyObservation) -> Features:
        """Returns the features that the network is conditioned on, and that a critic may read."""

    @abstractmethod
    def augment(self, key: PRNGKeyArray, observation: PolicyObservation, shift: int | None = None) -> PolicyObservation:
        """Shifts images at random and leaves vectors as they are.

        Args:
          key: randomness.
          observation: raw observations of B rows.
          shift: largest shift, pixels; None for the encoder's own.
        """

    @abstractmethod
    def sample_from(
        self, params: Params, key: PRNGKeyArray | None, features: Features, noise: Any = None
    ) -> PolicySample:
        """Samples a chunk for each row, with exploration.

        Args:
          params: parameters.
          key: randomness; not read where `noise` is given.
          features: of B observations.
          noise: what is drawn from the key otherwise, in the policy's own form.
        """

    @abstractmethod
    def act_from(self, params: Params, key: PRNGKeyArray | None, features: Features) -> Float[Array, "B H A"]:
        """Returns a chunk for each row without exploration.

        Args:
          params: parameters.
          key: of the initial noise of a chain; None starts chains from zeros.
          features: of B observations.

        Returns:
          Actions in [-1, 1].
        """

    @abstractmethod
    def log_prob_from(
        self,
        params: Params,
        features: Features,
        chain_prev: Float[Array, "B H A"],
        chain_next: Float[Array, "B H A"],
        index: Int[Array, " B"],
    ) -> Float[Array, "B H A"]:
        """Returns the log density of transitions, for each entry of a chunk, not clamped.

        Args:
          params: parameters.
          features: of B observations.
          chain_prev: point of the chain before the transition.
          chain_next: point after it.
          index: trained step of the chain, 0 the noisiest, below K.
        """

    @abstractmethod
    def mean_from(
        self, params: Params, features: Features, chain_prev: Float[Array, "B H A"], index: Int[Array, " B"]
    ) -> Float[Array, "B H A"]:
        """Returns the mean of the point after a transition, normalized and unclamped.

        Args:
          params: parameters.
          features: of B observations.
          chain_prev: point of the chain before the transition.
          index: trained step of the chain, 0 the noisiest, below K.
        """

    @abstractmethod
    def to_action(self, params: Params, chunk: Float[Array, "*B H A"]) -> Float[Array, "*B H A"]:
        """Returns normalized actions as actions in [-1, 1]."""

    @abstractmethod
    def entropy(self, params: Params, features: Features) -> Float[Array, ""]:
        """Returns the mean entropy of an entry of a chunk; 0 where it does not depend on parameters."""

    @abstractmethod
    def bc_loss(
        self, params: Params, key: PRNGKeyArray, observation: PolicyObservation, chunk: Float[Array, "B H A"]
    ) -> Float[Array, ""]:
        """Returns the loss of behavior cloning.

        Args:
          params: parameters.
          key: randomness of the loss.
          observation: raw observations.
          chunk: commanded actions, in [-1, 1].
        """

    def sample(
        self, params: Params, key: PRNGKeyArray | None, observation: PolicyObservation, noise: Any = None
    ) -> PolicySample:
        """Samples a chunk for each raw observation; arguments as of `sample_from`.

        Args:
          params: parameters.
          key: randomness; not read where `noise` is given.
          observation: raw observations.
          noise: what is drawn from the key otherwise.
        """
        return self.sample_from(params, key, self.encode(params, observation), noise)

    def act(self, params: Params, key: PRNGKeyArray | None, observation: PolicyObservation) -> Float[Array, "B H A"]:
        """Returns a chunk for each raw observation without exploration; arguments as of `act_from`.

        Args:
          params: parameters.
          key: of the initial noise; None starts chains from zeros.
          observation: raw observations.
        """
        return self.act_from(params, key, self.encode(params, observation))

    def log_prob(
        self,
        params: Params,
        observation: PolicyObservation,
        chain_prev: Float[Array, "B H A"],
        chain_next: Float[Array, "B H A"],
        index: Int[Array, " B"],
    ) -> Float[Array, "B H A"]:
        """Returns the log density of transitions given raw observations; arguments as of `log_prob_from`.

        Args:
          params: parameters.
          observation: raw observations.
          chain_prev: point of the chain before the transition.
          chain_next: point after it.
          index: trained step of the chain, 0 the noisiest.
        """
        return self.log_prob_from(params, self.encode(params, observation), chain_prev, chain_next, index)
