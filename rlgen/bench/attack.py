"""Clients that a policy server must survive: hostile messages, and connections that send too much or too slowly.

Frames are written to plain sockets, so that attacking costs less than being attacked.
"""

import os
import socket
import struct
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from rlgen.vla.serving import wire

LARGE = 60_000_000  # bytes, below the largest message of a server
TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9
IMAGE, STATE = "observation/image", "observation/state"


def hostile_messages(good: dict[str, Any]) -> dict[str, Callable[[], bytes]]:
    """Returns messages that must be refused, by name; each is made when it is called.

    Args:
      good: an observation with noise that the server answers.
    """
    image, noise = good[IMAGE].astype(np.float32) / 255, good["noise"]
    changes: dict[str, dict[str, Any]] = {
        "image in 0..255": {IMAGE: 255 * image},
        "image in -1..1": {IMAGE: 2 * image - 1},
        "image of nan": {IMAGE: np.full_like(image, np.nan)},
        "image of infinities": {IMAGE: np.full_like(image, np.inf)},
        "image of int32": {IMAGE: good[IMAGE].astype(np.int32)},
        "image that is a list": {IMAGE: good[IMAGE][0].tolist()},
        "image that is a text": {IMAGE: "x" * 50_000},
        "image of no pixels": {IMAGE: np.zeros((0, 32, 3), np.uint8)},
        "image a line of pixels": {IMAGE: np.zeros((1, 5_000_000, 3), np.uint8)},
        "image a million of one pixel": {IMAGE: np.zeros((1_000_000, 1, 1, 3), np.uint8)},
        "noise of nan": {"noise": np.full_like(noise, np.nan)},
        "noise of infinities": {"noise": np.full_like(noise, -np.inf)},
        "noise of 3e38": {"noise": np.full_like(noise, 3e38)},
        "noise of another shape": {"noise": noise[:, :-1]},
        "noise of texts": {"noise": ["x" * 50_000] + [""] * 5_000},
        "state of texts": {STATE: ["x" * 50_000] + [""] * 5_000},
        "state that is ragged": {STATE: [[0.0], [0.0, 1.0]]},
        "state beyond float32": {STATE: np.full(len(good[STATE]), 1e300)},
        "state of a million robots": {STATE: np.zeros((100_000, len(good[STATE])), np.float32)},
        "prompt that is a list": {"prompt": ["x" * 50_000] + [""] * 5_000},
        "prompt of numbers": {"prompt": 7},
        "prompt of 60,000 characters": {"prompt": "a " * 30_000},
        "prompt of a million characters": {"prompt": "a " * 500_000},
        "prompt padded by numpy": {"prompt": np.array(["x" * 1_000_000, ""])},
        "values in a key that nobody reads": {"more": list(range(100_000))},
    }
    parts: dict[str, Any] = {
        "scalar of 1 GB": {wire.SCALAR: True, b"data": 1_000_000_000, b"dtype": "V"},
        "scalar too large for its type": {wire.SCALAR: True, b"data": 300, b"dtype": "|u1"},
        "scalar of an object": {wire.SCALAR: True, b"data": 1, b"dtype": "|O"},
        "array larger than its bytes": {wire.ARRAY: True, b"data": b"\0", b"dtype": "<f8", b"shape": [1 << 40]},
        "array of empty texts": {wire.ARRAY: True, b"data": b"", b"dtype": "<U0", b"shape": [1 << 40]},
        "array of negative size": {wire.ARRAY: True, b"data": b"", b"dtype": "<f8", b"shape": [-1, 0]},
        "array of fields": {wire.ARRAY: True, b"data": b"", b"dtype": ",".join(["f8"] * 9_000), b"shape": [0]},
        "array of objects": {wire.ARRAY: True, b"data": b"\0" * 8, b"dtype": "|O", b"shape": [1]},
    }
    raw: dict[str, Callable[[], bytes]] = {
        "no message": lambda: b"\xc1\xff",
        "nothing": lambda: b"",
        "message that ends early": lambda: wire.pack(good)[:-1],
        "message with more behind it": lambda: wire.pack(good) + b"\0",
        "20 MB of empty maps": lambda: b"\xdd" + (20_000_000).to_bytes(4, "big") + b"\x80" * 20_000_000,
        "60 MB of empty lists in lists": lambda: b"\x9f" * 4_000_000 + b"\x90" * 56_000_000,
        "lists that say they are long": lambda: b"\xdd\xff\xff\xff\xff" * 1_000,
        "maps that say they are long": lambda: b"\xdf\xff\xff\xff\xff" * 1_000,
        "lists in lists": lambda: b"\x91" * 100_000 + b"\xc0",
        "bytes that say they are long": lambda: b"\xc6\xff\xff\xff\xff",
        "extension types": lambda: b"\x81\xa1a\xc7\x0c\xff" + b"\0" * 12,
        "keys that are lists": lambda: b"\x81\x90\xc0",
        "text that is no UTF-8": lambda: b"\x81\xa1a\xa1\xff",
        "60 MB of bytes": lambda: b"\xc6" + LARGE.to_bytes(4, "big") + bytes(LARGE),
        "100 MB": lambda: bytes(100_000_000),
    }
    for name, change in changes.items():
        raw[name] = lambda change=change: wire.pack({**good, **change})
    for name, part in parts.items():
        raw[name] = lambda part=part: wire.pack({**good, IMAGE: part})
        raw[f"{name}, as prompt"] = lambda part=part: wire.pack({**good, "prompt": [part]})
    return raw


def write_frame(payload: bytes, opcode: int = BINARY, *, announced: int | None = None, final: bool = True) -> bytes:
    """Returns a frame of a client, with a mask of zeros.

    Args:
      payload: its data.
      opcode: its kind.
      announced: the length that its header says, if that is another one.
      final: False if more frames of the message follow.
    """
    length = len(payload) if announced is None else announced
    small = length if length < 126 else 126 if length < 65536 else 127
    size = b"" if small < 126 else struct.pack("!H" if small == 126 else "!Q", length)
    return bytes([opcode | (0x80 if final else 0), 0x80 | small]) + size + bytes(4) + payload


def open_socket(address: str, headers: str = "", *, host: str | None = None, upgrade: bool = True) -> socket.socket:
    """Returns a connected socket, with a WebSocket connection on it unless that is refused.

    Args:
      address: `host:port`.
      headers: more lines of the request, each with its line break.
      host: of the request; the address by default.
      upgrade: False for a connection on which nothing was said yet.

    Raises:
      ConnectionError: the request was refused.
    """
    name, port = address.rsplit(":", 1)
    connection = socket.create_connection((name, int(port)), timeout=30)
    if upgrade:
        request = (
            f"GET / HTTP/1.1\r\nHost: {host or address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
        )
        try:
            connection.sendall(request.encode())
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):
                byte = connection.recv(1)
                if not byte:
                    break
                answer += byte
            if b" 101 " not in answer[:20]:
                raise ConnectionError(answer.decode(errors="replace").split("\r\n")[0])
        except BaseException:
            connection.close()
            raise
    return connection


def read_frame(connection: socket.socket) -> tuple[int, bytes]:
    """Returns opcode and payload of a server's next frame.

    Raises:
      ConnectionError: the connection ended.
    """
    first, second = _read(connection, 2)
    size = {126: 2, 127: 8}.get(second, 0)
    length = int.from_bytes(_read(connection, size), "big") if size else second
    return first & 0x0F, _read(connection, length)


def _read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise ConnectionError("the server ended the connection")
        data += more
    return data


def ask(address: str, message: bytes, headers: str = "", *, host: str | None = None) -> str:
    """Sends a message and returns what became of it: `answered`, `refused: ...`, `closed CODE` or `dropped`.

    Args:
      address: `host:port`.
      message: sent as one binary frame.
      headers: as of `open_socket`.
      host: as of `open_socket`.
    """
    try:
        with closing(open_socket(address, headers, host=host)) as connection:
            connection.settimeout(120)
            read_frame(connection)  # the metadata
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(write_frame(message))
            opcode, payload = read_frame(connection)
            while opcode not in (TEXT, BINARY, CLOSE):
                opcode, payload = read_frame(connection)
    except (ConnectionError, TimeoutError) as error:
        return f"dropped: {error}"
    if opcode == CLOSE:
        return f"closed {int.from_bytes(payload[:2], 'big')}"
    return "answered" if opcode == BINARY else f"refused: {payload.decode(errors='replace')}"


class Siege:
    """Attackers in threads, each repeating one kind of attack until their time is over.

    Attributes:
      counts: how often each kind was tried.
      answered: names of hostile messages that were answered; there must be none.
    """

    def __init__(self, address: str, good: dict[str, Any]):
        """Prepares the attacks.

        Args:
          address: `host:port`.
          good: an observation with noise that the server answers.
        """
        self.counts, self.answered = Counter[str](), list[str]()
        self._address, self._good, self._over = address, good, threading.Event()
        self._kinds: dict[str, Callable[[], object]] = {
            "hostile messages": self._send_messages,
            "idle sockets": lambda: self._hold(200, b"", upgrade=False),
            "idle connections": lambda: self._hold(100, b""),
            "endless requests": lambda: self._push(
                b"X-Header: x\r\n" * 5_000, upgrade=False, begin=b"GET / HTTP/1.1\r\n"
            ),
            "halves of large messages": lambda: self._hold(32, write_frame(bytes(LARGE // 2), announced=LARGE)),
            "slow messages": lambda: self._hold(16, write_frame(bytes(100_000), announced=LARGE), drip=b"\0"),
            "tiny frames": lambda: self._push(
                write_frame(b"", BINARY, final=False) + write_frame(b"", 0, final=False) * 40_000
            ),
            "pings": lambda: self._push(write_frame(b"", PING) * 40_000),
            "clients that do not read": lambda: self._push(write_frame(wire.pack(self._good)) * 20),
            "foreign pages": self._ask_as_page,
            "other protocols": self._speak_otherwise,
        }

    @property
    def kinds(self) -> Sequence[str]:
        """Returns the names of the attacks."""
        return list(self._kinds)

    def run(self, seconds: float, kinds: Sequence[str] | None = None) -> None:
        """Attacks for some seconds.

        Args:
          seconds: how long.
          kinds: which attacks, all at once; all of them by default.
        """
        self._over.clear()
        threads = [threading.Thread(target=self._repeat, args=(kind,), daemon=True) for kind in kinds or self.kinds]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        self._over.set()
        for thread in threads:
            thread.join(60)

    def _repeat(self, kind: str) -> None:
        while not self._over.is_set():
            with suppress(OSError):
                self._kinds[kind]()
            self.counts[kind] += 1
            self._over.wait(0.02)

    def _send_messages(self) -> None:
        for name, make in hostile_messages(self._good).items():
            if self._over.is_set():
                return
            if ask(self._address, make()) == "answered":
                self.answered.append(name)

    def _hold(self, count: int, data: bytes, *, drip: bytes = b"", upgrade: bool = True) -> None:
        """Opens connections, sends the beginning of something on each, and keeps them open for some seconds."""
        held: list[socket.socket] = []
        end = time.monotonic() + 5
        try:
            for _ in range(count):
                with suppress(OSError):
                    held.append(open_socket(self._address, upgrade=upgrade))
                    held[-1].settimeout(0.05)
                    held[-1].sendall(data)
                if self._over.is_set() or time.monotonic() > end:
                    break
            while not self._over.wait(0.2) and time.monotonic() < end:
                for connection in held:
                    with suppress(OSError):
                        connection.send(drip)
        finally:
            for connection in held:
                connection.close()

    def _push(self, data: bytes, *, upgrade: bool = True, begin: bytes = b"") -> None:
        """Sends data over and over without reading, until the server ends the connection."""
        with closing(open_socket(self._address, upgrade=upgrade)) as connection:
            connection.settimeout(1)
            connection.sendall(begin)
            while not self._over.is_set():
                connection.sendall(data)

    def _ask_as_page(self) -> None:
        message = wire.pack(self._good)
        for headers, host in (
            ("Origin: http://evil.example\r\n", None),
            ("Origin: null\r\n", None),
            ("", "evil.example"),
        ):
            if ask(self._address, message, headers, host=host) == "answered":
                self.answered.append(f"request of a page: {headers or host}")

    def _speak_otherwise(self) -> None:
        for data in (
            b"\x16\x03\x01\x02\0" + os.urandom(500),
            b"SSH-2.0-x\r\n",
            b"POST / HTTP/1.1\r\n\r\n",
            b"\n" * 5000,
            b"GET",
        ):
            with closing(open_socket(self._address, upgrade=False)) as connection:
                connection.settimeout(0.2)
                connection.sendall(data)
                with suppress(OSError):
                    connection.recv(1000)


def ask_until_closed(
    address: str, message: bytes, *, clients: int, stop: Callable[[], object]
) -> list[tuple[int, int]]:
    """Sends requests from several clients without pause, stops the server, and waits until it has closed.

    Args:
      address: `host:port`.
      message: a request.
      clients: connections at once.
      stop: called after a second; asks the server to stop.

    Returns:
      Of each client the number of requests that were not answered, and the code of the close.
    """
    ends: list[tuple[int, int]] = []

    def work() -> None:
        sent = answered = 0
        try:
            with connect(f"ws://{address}", compression=None, max_size=None) as connection:
                connection.recv()
                while True:
                    connection.send(message)
                    sent += 1
                    connection.recv(timeout=60)
                    answered += 1
        except ConnectionClosed as error:
            ends.append((sent - answered, error.rcvd.code if error.rcvd else 1006))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    stop()
    for thread in threads:
        thread.join(60)
    return ends


class Watch:
    """A thread that asks a server for its health ten times a second, and looks at its process's memory.

    Attributes:
      health_s: seconds that each answer took; infinite for one that did not come.
      start_mb: memory of the process at the start.
      most_mb: the most that it took since.
    """

    def __init__(self, address: str, pid: int):
        self.health_s: list[float] = []
        self._address, self._pid, self._over = address, pid, threading.Event()
        self.start_mb = self.most_mb = resident_mb(pid)
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(0.1):
            start = time.monotonic()
            try:
                urllib.request.urlopen(f"http://{self._address}/healthz", timeout=30).read()
                self.health_s.append(time.monotonic() - start)
            except OSError:
                self.health_s.append(float("inf"))
            self.most_mb = max(self.most_mb, resident_mb(self._pid))


def resident_mb(pid: int) -> float:
    """Returns the resident memory of a process, MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
