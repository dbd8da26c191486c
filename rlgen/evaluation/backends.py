"""Policies that an evaluation asks for actions: in this process, or behind a server; and the actor that asks them."""

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from threading import Lock
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int, UInt8

from rlgen.core.actions import ACTION_SIZE
from rlgen.core.errors import UserError
from rlgen.core.types import FixturePoses, Observation, Robot
from rlgen.vla.data.transforms import Sample
from rlgen.vla.serving.actor import check_for_environment, legal_actions, other_robot, robot_sample
from rlgen.vla.serving.client import PolicyClient
from rlgen.vla.serving.policy import VlaPolicy
from rlgen.vla.serving.server import stack

LONGEST_NAME = 1000  # characters of what a server says of itself


class Render(Protocol):
    """A function that renders states, in the benchmark's raw orientation."""

    def __call__(
        self, states: Float[np.ndarray, "N D"], *, fixtures: Sequence[FixturePoses | None] | None
    ) -> UInt8[np.ndarray, "N cameras h w 3"]:
        """Returns the images of each state, with its fixtures where they stand; arguments as of `RenderPool.render`."""


class PolicyBackend(Protocol):
    """A policy that turns observations into action chunks.

    Attributes:
      name: shown in reports; an evaluation resumes only with the same one.
    """

    name: str

    def __call__(self, samples: Sequence[Sample], seeds: Sequence[int]) -> Float[np.ndarray, "N H 7"]:
        """Returns a chunk of actions for each sample.

        Args:
          samples: N observations, each in openpi's format for LIBERO.
          seeds: one for each sample; they decide the noise where it is drawn in this process.
        """

    def close(self) -> None:
        """Ends what the backend started; it is not asked again."""

    def abort(self) -> None:
        """Ends a call that another thread waits for, if it may take long; the backend is not asked again."""


class InProcessBackend:
    """A policy of ours, asked for all observations in as few calls as its batch allows."""

    def __init__(self, policy: VlaPolicy, name: str):
        check_for_environment(policy, name)
        self._policy, self.name = policy, name

    def __call__(self, samples: Sequence[Sample], seeds: Sequence[int]) -> Float[np.ndarray, "N H 7"]:
        """Returns a chunk of actions for each sample; a sample's noise depends on its seed alone."""
        prepared = stack([self._policy.prepare(sample) for sample in samples])
        return self._policy.act(prepared, self._policy.sample_noise(list(seeds)))

    def close(self) -> None:
        """Does nothing: the policy belongs to the caller."""

    def abort(self) -> None:
        """Does nothing: a call ends by itself."""


class ServerBackend:
    """A policy server, asked through several connections at once, so that it can batch their requests.

    It draws its own noise, so that seeds are not sent.
    """

    def __init__(self, address: str, connections: int, *, patience_s: float = 30.0, timeout_s: float = 300.0):
        """Connects to a server.

        Args:
          address: `host:port`.
          connections: requests that are under way at once, at least 1.
          patience_s: seconds to wait for the server at first.
          timeout_s: seconds to wait for an answer.

        Raises:
          UserError: no policy server there, or one that says that its model is of another robot.
        """
        self._clients: list[PolicyClient] = []
        self._threads = ThreadPoolExecutor(connections)
        try:
            for _ in range(connections):
                self._clients.append(PolicyClient(address, patience_s=patience_s, timeout_s=timeout_s))
        except BaseException:
            self.abort()
            raise
        metadata = self._clients[0].metadata
        self.name = f"server {address}: {_describe(metadata)}"
        widths = [metadata.get(f"{name}_size") for name in ("state", "action")] if isinstance(metadata, dict) else []
        if widths and all(type(width) is int for width in widths) and not Robot(*widths).is_libero:
            self.abort()
            raise other_robot(self.name, Robot(*widths))

    def __call__(self, samples: Sequence[Sample], seeds: Sequence[int]) -> Float[np.ndarray, "N H 7"]:
        """Returns a chunk of actions for each sample."""
        count = len(self._clients)

        def infer(client: int) -> list[np.ndarray]:
            return [self._clients[client].infer(sample)["actions"] for sample in samples[client::count]]

        answers: list = [None] * len(samples)
        try:
            running = [self._threads.submit(infer, client) for client in range(count)]
            done, _ = wait(running, return_when=FIRST_EXCEPTION)
            for future in done:  # a failure is met here, whichever the client, while others wait
                future.result()
            for client, future in enumerate(running):
                answers[client::count] = future.result()
        except BaseException:
            # Other threads may wait for an answer for minutes, and the interpreter's end for them.
            self.abort()
            raise
        shapes = {chunk.shape for chunk in answers}
        if len(shapes) > 1 or min(shapes)[1] != ACTION_SIZE or not all(np.isfinite(chunk).all() for chunk in answers):
            found = " and ".join(str(list(shape)) for shape in sorted(shapes))
            raise UserError(f"{self.name} answers actions {found}, expected finite ones of {ACTION_SIZE} numbers")
        return np.stack(answers)

    def close(self) -> None:
        """Closes the connections."""
        for client in self._clients:
            client.close()
        self._threads.shutdown()

    def abort(self) -> None:
        """Ends the connections at once, also for threads that wait for an answer."""
        for client in self._clients:
            client.abort()
        self._threads.shutdown(cancel_futures=True)


def _describe(metadata: Any) -> str:
    text = ", ".join(f"{k} {v}" for k, v in metadata.items()) if isinstance(metadata, dict) else str(metadata)
    return " ".join(text.split())[:LONGEST_NAME]


class BackendActor:
    """A backend that is asked for the next actions of environments of one task, for one group of them at a time.

    Images are rendered before a group's turn comes, while the backend works for another one.
    """

    def __init__(self, backend: PolicyBackend, prompt: str, render: Render, replan: int):
        """Makes the actor.

        Args:
          backend: the policy.
          prompt: the instruction.
          render: images of states, in the benchmark's raw orientation.
          replan: actions of a chunk that are executed before the backend is asked again.
        """
        self._backend, self._prompt, self._render, self._replan = backend, prompt, render, replan
        self._turn = Lock()

    def __call__(
        self, observation: Observation, rows: Int[np.ndarray, " M"], seeds: Sequence[int], chunks: Sequence[int]
    ) -> Float[np.ndarray, "M H 7"]:
        """Returns actions for some rows; arguments as of `rlgen.libero.envs.rollouts.Ask`."""
        samples = self._samples(observation, rows)
        noise = [_noise_seed(*pair) for pair in zip(seeds, chunks, strict=True)]
        with self._turn:
            actions = self._backend(samples, noise)
        if not np.isfinite(actions).all():
            raise UserError(f"{self._backend.name} answers actions that are not finite")
        if actions.shape[1] < self._replan:
            raise UserError(f"{self._backend.name} answers {actions.shape[1]} actions, --replan is {self._replan}")
        return legal_actions(actions[:, : self._replan])

    def _samples(self, observation: Observation, rows: Int[np.ndarray, " M"]) -> list[Sample]:
        images = self._render(observation.physics[rows], fixtures=observation.fixtures_of(rows))
        states = observation.robot.vla_state[rows]
        return [robot_sample(state, each, self._prompt) for state, each in zip(states, images, strict=True)]


def _noise_seed(seed: int, chunks: int) -> int:
    """Returns the seed of the noise of an episode's next chunk, whichever other episodes are asked for."""
    return int(np.random.SeedSequence((seed, chunks)).generate_state(1)[0])
