"""A client of policy servers, ours and openpi's: what its evaluation sends, and what it expects back."""

import time
from contextlib import ExitStack
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect

from rlgen.core.errors import UserError
from rlgen.vla.serving import wire


class PolicyClient:
    """One connection. Raises `UserError` where no server answers, or it answers with an error.

    Attributes:
      metadata: what the server said of itself.
    """

    def __init__(self, address: str, *, patience_s: float = 30.0):
        """`address` is `host:port` or `ws://host:port`; waits so long for a server that is still starting."""
        self.address = address if "://" in address else f"ws://{address}"
        self._stack = ExitStack()
        self._connection = _connect(self._stack, self.address, patience_s)
        self.metadata: dict[str, Any] = wire.unpack(self._connection.recv())

    def infer(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The server's answer, with `actions` of `[H, A]`."""
        try:
            self._connection.send(wire.pack(observation))
            answer = self._connection.recv()
        except ConnectionClosed as error:
            raise UserError(f"{self.address} closed the connection ({error}); is the server still running?") from error
        if isinstance(answer, str):
            last = (answer.strip().splitlines() or ["no reason"])[-1]
            raise UserError(f"{self.address} cannot answer: {last}")
        told = wire.unpack(answer)
        if not isinstance(told, dict) or np.ndim(told.get("actions")) != 2:
            raise UserError(f"{self.address} answered without actions [H, A]; is it a policy server?")
        return told

    def close(self) -> None:
        """Says goodbye."""
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
