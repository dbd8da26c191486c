"""A client of policy servers, ours and openpi's: sends what openpi's evaluation sends, and reads what it expects."""

import time
from contextlib import ExitStack
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect

from rlgen.core.errors import UserError
from rlgen.vla.serving import wire


class PolicyClient:
    """A connection to a policy server.

    Args:
      address: `host:port` or `ws://host:port`.
      patience_s: seconds to wait for a server that is still starting.

    Attributes:
      metadata: sent by the server at the beginning.

    Raises:
      UserError: no server there.
    """

    def __init__(self, address: str, *, patience_s: float = 30.0):
        self.address = address if "://" in address else f"ws://{address}"
        self._stack = ExitStack()
        self._connection = _connect(self._stack, self.address, patience_s)
        self.metadata: dict[str, Any] = wire.unpack(self._connection.recv())

    def infer(self, observation: dict[str, Any]) -> dict[str, Any]:
        """Sends an observation and returns the answer, with `actions` of `[H, A]`.

        Raises:
          UserError: the server answers with an error or closes the connection.
        """
        try:
            self._connection.send(wire.pack(observation))
            message = self._connection.recv()
        except ConnectionClosed as error:
            raise UserError(f"{self.address} closed the connection ({error}); is the server still running?") from error
        if isinstance(message, str):
            last = (message.strip().splitlines() or ["no reason"])[-1]
            raise UserError(f"{self.address} cannot answer: {last}")
        answer = wire.unpack(message)
        if not isinstance(answer, dict) or np.ndim(answer.get("actions")) != 2:
            raise UserError(f"{self.address} answered without actions [H, A]; is it a policy server?")
        return answer

    def close(self) -> None:
        """Closes the connection."""
        self._stack.close()


def _connect(stack: ExitStack, address: str, patience_s: float) -> ClientConnection:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return stack.enter_context(connect(address, compression=None, max_size=None))
        except (OSError, WebSocketException, TimeoutError, ValueError) as error:
            if time.monotonic() > deadline or isinstance(error, ValueError):
                raise UserError(f"no policy server at {address} ({error}); start one with `rlgen vla serve`") from error
            time.sleep(0.2)
