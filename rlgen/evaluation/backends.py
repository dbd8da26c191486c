"""Whom an evaluation asks: a policy in this process, or a server through several connections."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from rlgen.core.errors import UserError
from rlgen.vla.data.transforms import Sample
from rlgen.vla.serving.client import PolicyClient
from rlgen.vla.serving.policy import Policy
from rlgen.vla.serving.server import stack


class PolicyBackend(Protocol):
    """Answers observations."""

    name: str

    def __call__(self, samples: Sequence[Sample], seeds: Sequence[int]) -> Float[np.ndarray, "N H 7"]:
        """Actions for each sample; `seeds` decide the noise where it is drawn here."""

    def close(self) -> None:
        """No more questions."""


class InProcessBackend:
    """A policy of ours, asked for all observations in as few calls as its batch allows."""

    def __init__(self, policy: Policy, name: str):
        self._policy, self.name = policy, name

    def __call__(self, samples: Sequence[Sample], seeds: Sequence[int]) -> Float[np.ndarray, "N H 7"]:
        prepared = stack([self._policy.prepare(sample) for sample in samples])
        return self._policy.act(prepared, self._policy.draw_noise(list(seeds)))

    def close(self) -> None:
        """No more questions."""


class ServerBackend:
    """A server, asked through `connections` at once, so that it can batch."""

    def __init__(self, address: str, connections: int):
        self._clients = [PolicyClient(address) for _ in range(connections)]
        self._threads = ThreadPoolExecutor(connections)
        self.name = f"server {address}: {_shown(self._clients[0].metadata)}"

    def __call__(self, samples: Sequence[Sample], seeds: Sequence[int]) -> Float[np.ndarray, "N H 7"]:
        count = len(self._clients)

        def ask(number: int) -> list[np.ndarray]:
            return [np.asarray(self._clients[number].infer(s)["actions"]) for s in samples[number::count]]

        answers: list = [None] * len(samples)
        for number, share in enumerate(self._threads.map(ask, range(count))):
            answers[number::count] = share
        actions = np.stack(answers)
        if actions.shape[-1] < 7 or not np.isfinite(actions).all():
            raise UserError(f"{self.name} answers actions {list(actions.shape[1:])}, expected finite ones of 7 numbers")
        return actions[..., :7]

    def close(self) -> None:
        """Closes the connections."""
        for client in self._clients:
            client.close()
        self._threads.shutdown()


def _shown(metadata: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in metadata.items()) if isinstance(metadata, dict) else str(metadata)
