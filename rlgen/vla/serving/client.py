"""A client of policy servers, ours and openpi's: sends what openpi's evaluation sends, and reads what it expects."""

import math
import socket
import struct
import time
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np
from jaxtyping import Float
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect

from rlgen.core.addresses import websocket_url
from rlgen.core.errors import UserError, first_line
from rlgen.vla.data.inputs import is_numeric
from rlgen.vla.serving import wire

LARGEST_ANSWER = 64_000_000  # bytes
CLOSE_S = 1.0
IS_IT = "is it a policy server?"


class PolicyClient:
    """A connection to a policy server.

    No pings are sent: a server that compiles its model answers nothing meanwhile, and is waited for.

    Args:
      address: `host:port` or `ws://host:port`.
      patience_s: seconds to wait for a server that is still starting, and for the metadata that it sends first.
      timeout_s: seconds to wait for an answer.

    Attributes:
      metadata: sent by the server at the beginning.

    Raises:
      UserError: no policy server there.
    """

    def __init__(self, address: str, *, patience_s: float = 30.0, timeout_s: float = 300.0):
        self.address, self._timeout = websocket_url(address), timeout_s
        deadline = time.monotonic() + patience_s
        self._stack = ExitStack()
        self._connection = _connect(self._stack, self.address, deadline, timeout_s)
        try:
            left = max(1.0, deadline - time.monotonic())
            message = self._receive(left, f"no greeting; {IS_IT} (--server-patience waits longer for it)")
            if isinstance(message, str):
                raise UserError(f"{self.address} sent a text, {message[:40]!r}; {IS_IT}")
            self.metadata: dict[str, Any] = self._unpack(message)
        except BaseException:
            self.abort()
            raise

    def infer(self, observation: dict[str, Any]) -> dict[str, Any]:
        """Sends an observation and returns the answer, with `actions` of `[H, A]`.

        Raises:
          UserError: the server answers with an error or not at all, or closes the connection.
        """
        message = self._receive(self._timeout, "no answer; --server-timeout waits longer", wire.pack(observation))
        if isinstance(message, str):
            last = (message.strip().splitlines() or ["no reason"])[-1]
            raise UserError(f"{self.address} cannot answer: {last[:500]}")
        answer = self._unpack(message)
        actions = _actions(answer)
        if actions is None:
            raise UserError(f"{self.address} answered without actions [H, A]; {IS_IT}")
        return {**answer, "actions": actions}

    def close(self) -> None:
        """Closes the connection."""
        self._stack.close()

    def abort(self) -> None:
        """Ends the connection at once, also for a thread that waits for an answer."""
        self._connection.close_socket()

    def _receive(self, seconds: float, late: str, request: bytes | None = None) -> str | bytes:
        """Returns the server's next message, after a request if there is one.

        Args:
          seconds: to wait for it.
          late: what to say where it does not come.
          request: sent first.
        """
        try:
            if request is not None:
                self._connection.send(request)
            return self._connection.recv(timeout=seconds)
        except TimeoutError as error:
            self.abort()
            raise UserError(f"{self.address} is silent for {seconds:.3g} s: {late}") from error
        except ConnectionClosed as error:
            question = IS_IT if request is None else "is the server still running?"
            raise UserError(f"{self.address} closed the connection ({first_line(error)}); {question}") from error

    def _unpack(self, message: bytes) -> Any:
        try:
            return wire.unpack(message)
        except ValueError as error:
            raise UserError(f"{self.address} sent {error}; {IS_IT}") from error


def _actions(answer: Any) -> Float[np.ndarray, "H A"] | None:
    actions = answer.get("actions") if isinstance(answer, dict) else None
    try:
        array = np.asarray(actions if is_numeric(actions) else None)
    except ValueError:  # lists of several lengths
        return None
    return array if array.ndim == 2 else None


def _connect(stack: ExitStack, address: str, deadline: float, timeout_s: float) -> ClientConnection:
    while True:
        try:
            connection = stack.enter_context(
                connect(
                    address,
                    compression=None,
                    max_size=LARGEST_ANSWER,
                    open_timeout=max(1.0, deadline - time.monotonic()),
                    ping_interval=None,
                    close_timeout=CLOSE_S,
                )
            )
        except (OSError, WebSocketException, TimeoutError, ValueError) as error:
            if time.monotonic() > deadline or isinstance(error, ValueError):
                late = isinstance(error, TimeoutError)
                advice = "--server-patience waits longer" if late else "start one with `rlgen vla serve`"
                raise UserError(f"no policy server at {address} ({first_line(error)}); {advice}") from error
            time.sleep(0.2)
        else:
            # A server that has stopped reading is as silent as one that does not answer. One that has left already is
            # noticed by the first message that does not come.
            limit = struct.pack("ll", max(1, math.ceil(timeout_s)), 0)
            with suppress(OSError):
                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            return connection
