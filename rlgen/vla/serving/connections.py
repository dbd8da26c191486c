"""Connections of a policy server that clients cannot fill: who may connect, and how much each may send.

What clients send is kept within two messages of the largest size, whatever they do: every connection has an equal
share of one message, and beyond its share one connection at a time may send a message, which has to arrive in time.
Others are not read from meanwhile, so that their data waits on their side. A client that was never answered, or has
been silent for long, leaves when another one needs its place; so does the oldest of many that have not said what they
want.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.frames import DATA_OPCODES, CloseCode, Frame
from websockets.protocol import Event, State

from rlgen.core.errors import UserError

PIECE = 2**12
"""Bytes that are parsed at once."""
MOST_FRAMES = 16
"""Frames in a piece. One of a few bytes costs as much time as a large one, and others wait meanwhile."""
LARGEST_HEAD = 2**14
"""Bytes of a connection's HTTP request."""
MOST_HANDSHAKES = 256
"""Connections whose HTTP request has not arrived."""
LINGER_S = 2.0
"""Seconds in which a client has to close its end of a connection that was refused."""
SILENCE_S = 600.0
"""Seconds after which a silent client may lose its place to another one."""


@dataclass(frozen=True)
class Limits:
    """Limits of what clients of a server may take.

    Attributes:
      message_bytes: in a message.
      connections: at once.
      message_s: seconds in which a message has to arrive, and an answer has to be read.
    """

    message_bytes: int = 64_000_000
    connections: int = 64
    message_s: float = 20.0

    def __post_init__(self) -> None:
        if self.message_bytes < 1 or self.connections < 1:
            raise UserError(f"limits {self.message_bytes} and {self.connections}: expected 1 or more")

    @property
    def share(self) -> int:
        """Returns the bytes that each connection may hold without waiting for its turn."""
        return self.message_bytes // self.connections


class Gate:
    """The connections of a server, and the turn to send a large message, which one of them has.

    Attributes:
      limits: what clients may take.
      clients: connections that were let in.
    """

    def __init__(self, limits: Limits):
        self.limits, self.clients = limits, set[LimitedConnection]()
        self._handshakes: dict[LimitedConnection, None] = {}
        self._turn: deque[LimitedConnection] = deque()

    def greet(self, connection: "LimitedConnection") -> None:
        """Takes note of a new connection; if there are too many, the oldest leaves."""
        self._handshakes[connection] = None
        if len(self._handshakes) > MOST_HANDSHAKES:
            self._dismiss(next(iter(self._handshakes)))

    def let_in(self, connection: "LimitedConnection") -> bool:
        """Returns whether a connection may become a client's; another one leaves for it if it can be spared."""
        if len(self.clients) >= self.limits.connections:
            spare = [client for client in self.clients if client.may_leave]
            if not spare:
                return False
            self._dismiss(min(spare, key=lambda client: (client.answers > 0, client.heard)))
        self._handshakes.pop(connection, None)
        self.clients.add(connection)
        return True

    def leave(self, connection: "LimitedConnection") -> None:
        """Forgets a connection."""
        self._handshakes.pop(connection, None)
        self.clients.discard(connection)
        self.give_back(connection)

    def close(self) -> None:
        """Ends all connections."""
        for connection in [*self._handshakes, *self.clients]:
            self._dismiss(connection)

    def _dismiss(self, connection: "LimitedConnection") -> None:
        self.leave(connection)
        connection.transport.abort()

    def ask_turn(self, connection: "LimitedConnection") -> bool:
        """Returns whether a connection has the turn; if not, `adjust` is called when it gets it."""
        if connection not in self._turn:
            self._turn.append(connection)
        return self._turn[0] is connection

    def give_back(self, connection: "LimitedConnection") -> None:
        """Gives the turn to the next connection if this one has it."""
        if connection in self._turn:
            had = self._turn[0] is connection
            self._turn.remove(connection)
            if had and self._turn:
                self._turn[0].adjust()


class LimitedConnection(ServerConnection):
    """A connection that reads no more than its server's limits allow.

    Attributes:
      heard: time of the last message, by the event loop's clock.
      is_busy: a request is being answered.
      answers: that were sent.
    """

    def __init__(self, gate: Gate, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self._gate, self._limits = gate, gate.limits
        self.heard, self.is_busy, self.answers = self.loop.time(), False, 0
        self._frames = 0  # in the piece that is parsed
        self._partial = 0  # bytes of a frame that is not complete
        self._unread = 0  # bytes of frames whose message has not been released
        self._messages = 0  # complete ones that have not been released
        self._timer: asyncio.TimerHandle | None = None
        self._end: asyncio.TimerHandle | None = None

    @property
    def may_leave(self) -> bool:
        """Returns whether another client may have this one's place."""
        return not self.is_busy and (not self.answers or self.loop.time() - self.heard > SILENCE_S)

    @property
    def is_idle(self) -> bool:
        """Returns whether nothing was received that is not answered."""
        return not self.is_busy and not self._partial and not self._unread

    def release(self, size: int) -> None:
        """Frees the room of a message of `size` bytes that has been read."""
        self._unread -= size
        self._messages -= 1
        self.adjust()

    def forget(self) -> None:
        """Frees the room of everything that was received, where nothing more is to be read."""
        self._partial = self._unread = self._messages = 0
        self.adjust()

    def refuse(self, code: int, reason: str) -> None:
        """Closes the connection without waiting for the client."""
        if self.state is State.OPEN:
            self.protocol.fail(code, reason)
            self.send_data()
            self._end_soon()
        else:
            self.transport.abort()

    def adjust(self) -> None:
        """Reads on, or does not, by how much the connection holds."""
        if self.state not in (State.CONNECTING, State.OPEN):
            return
        held, is_unfinished = self._partial + self._unread, self._messages == 0
        if held <= self._limits.share:
            self._gate.give_back(self)
            may_read = True
        else:
            may_read = is_unfinished and self._gate.ask_turn(self)
        if may_read:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()
        self._watch(held > 0 and is_unfinished and may_read)

    def send_data(self) -> None:
        """Sends what is to be sent in one piece, so that a client reads an answer and the close behind it together."""
        self.protocol.writes[:] = _joined(self.protocol.writes)
        super().send_data()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes note of the connection."""
        super().connection_made(transport)
        self._gate.greet(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Gives everything back."""
        self._watch(False)
        if self._end is not None:
            self._end.cancel()
        self._gate.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses data piece by piece, and stops where there are too many frames in one."""
        if self.protocol.eof_sent:
            # Refused; what the client goes on sending is of no interest.
            return
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            self._frames = 0
            super().data_received(piece)
            self._partial = 0 if self._frames else self._partial + len(piece)
            if self._frames > MOST_FRAMES:
                return self.refuse(CloseCode.POLICY_VIOLATION, "too many small frames")
            if self.request is None and self._partial > LARGEST_HEAD:
                return self.refuse(CloseCode.POLICY_VIOLATION, "")
        if self.state is State.CLOSING:
            self._end_soon()
        else:
            self.adjust()

    def process_event(self, event: Event) -> None:
        """Counts a frame and what it holds."""
        super().process_event(event)
        self._frames += 1
        if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
            self.heard = self.loop.time()
            self._unread += len(event.data)
            self._messages += event.fin

    def _watch(self, is_late: bool) -> None:
        """Starts or stops the clock of a message that has begun to arrive."""
        if not is_late and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        elif is_late and self._timer is None:
            seconds = self._limits.message_s
            reason = f"a message has to arrive within {seconds:g} s"
            self._timer = self.loop.call_later(seconds, self.refuse, CloseCode.POLICY_VIOLATION, reason)

    def _end_soon(self) -> None:
        self._watch(False)
        self._gate.give_back(self)
        self.transport.resume_reading()
        if self._end is None:
            self._end = self.loop.call_later(LINGER_S, self.transport.abort)


def _joined(writes: list[bytes]) -> list[bytes]:
    """Returns data to send with neighbors joined; an empty one means the end and stays."""
    joined: list[bytes] = []
    for data in writes:
        if joined and data and joined[-1]:
            joined[-1] += data
        else:
            joined.append(data)
    return joined
