"""The client and its backend against servers that are slow, silent, leave, or are no policy servers."""

import itertools
import socket
import threading
import time
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from rlgen.core.errors import UserError
from rlgen.evaluation.backends import ServerBackend
from rlgen.vla.serving import wire
from rlgen.vla.serving.client import PolicyClient

ANSWER = wire.pack({"actions": np.zeros((10, 7), np.float32)})
GREETING = wire.pack({"name": "fake"})


@contextmanager
def fake_server(*messages, wait_s=0.0):
    """Yields the address of a server that sends the first message at once and the others one for each request.

    After the last one it says nothing any more; None closes the connection.
    """
    over = threading.Event()

    def talk(connection):
        for index, message in enumerate(messages):
            if index and connection.recv() and over.wait(wait_s):
                return
            if message is None:
                return
            connection.send(message)
        over.wait(60)

    with serve(lambda connection: quietly(talk, connection), "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            over.set()
            server.shutdown()
            thread.join()


def quietly(talk, connection):
    with suppress(ConnectionClosed):
        talk(connection)


@pytest.mark.parametrize(
    ("messages", "line"),
    [
        ((), r"is silent for .* no greeting; is it a policy server\? \(--server-patience waits longer"),
        ((None,), r"closed the connection .*; is it a policy server\?"),
        (("hello",), r"sent a text, 'hello'; is it a policy server\?"),
        ((b"\xc1\xff",), r"sent not a msgpack message.*; is it a policy server\?"),
    ],
    ids=["silent", "closes", "text", "junk"],
)
def test_what_is_no_policy_server_is_told_at_once(messages, line):
    with fake_server(*messages) as address:
        begun = time.monotonic()
        with pytest.raises(UserError, match=line) as error:
            PolicyClient(address, patience_s=1)
        assert "\n" not in str(error.value) and address in str(error.value)
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("messages", "line"),
    [
        ((), r"is silent for 0.5 s: no answer; --server-timeout waits longer"),
        ((None,), r"closed the connection .*; is the server still running\?"),
        (("Traceback\n  File x\nValueError: no image",), r"cannot answer: ValueError: no image"),
        ((b"\xc1\xff",), r"sent not a msgpack message.*; is it a policy server\?"),
        ((wire.pack({"no": "actions"}),), r"answered without actions \[H, A\]"),
        ((wire.pack({"actions": ["a"]}),), r"answered without actions \[H, A\]"),
        ((wire.pack({"actions": [[1], [1, 2]]}),), r"answered without actions \[H, A\]"),
        ((wire.pack([1]),), r"answered without actions \[H, A\]"),
        ((wire.pack({"actions": np.zeros((10, 6))}),), r"answers actions \[10, 6\], expected finite ones of 7"),
        ((wire.pack({"actions": np.full((10, 7), np.nan)}),), r"answers actions \[10, 7\], expected finite ones"),
    ],
    ids=["silent", "closes", "text", "junk", "no actions", "texts", "ragged", "a list", "six", "nan"],
)
def test_an_evaluation_ends_in_one_line_whatever_the_server_answers(messages, line):
    with fake_server(GREETING, *messages) as address:
        begun = time.monotonic()
        backend = ServerBackend(address, 2, patience_s=5, timeout_s=0.5)
        with pytest.raises(UserError, match=line) as error:
            backend([{}] * 2, range(2))
        assert "\n" not in str(error.value)
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize("failing", [0, 3])
def test_one_client_that_fails_ends_the_others_that_wait(failing):
    """Threads that wait for an answer would keep the process alive until their time is up."""
    clients = itertools.count()

    def talk(connection):
        client = next(clients)
        connection.send(GREETING)
        connection.recv()
        if client == failing:
            connection.send("ValueError: no")
        connection.recv(timeout=60)

    with serve(lambda connection: quietly(talk, connection), "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        backend = ServerBackend(f"127.0.0.1:{server.socket.getsockname()[1]}", 4, timeout_s=60)
        begun = time.monotonic()
        with pytest.raises(UserError):
            backend([{}] * 4, range(4))
        assert time.monotonic() - begun < 5
        server.shutdown()
        thread.join()


def test_a_server_may_take_its_time_and_answer_lists():
    with fake_server(GREETING, wire.pack({"actions": [[0.5] * 7] * 2}), ANSWER, wait_s=1.0) as address:
        client = PolicyClient(address, timeout_s=20)
        assert client.metadata == {"name": "fake"}
        assert client.infer({})["actions"].shape == (2, 7)
        assert client.infer({})["actions"].shape == (10, 7)
        client.close()


def test_a_port_that_accepts_and_says_nothing_is_told():
    expected = pytest.raises(UserError, match=r"no policy server at .*; --server-patience waits longer")
    with socket.create_server(("127.0.0.1", 0)) as silent, expected:
        PolicyClient(f"127.0.0.1:{silent.getsockname()[1]}", patience_s=0.5)
