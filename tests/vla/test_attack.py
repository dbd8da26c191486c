"""The policy server against clients that send too much, too little, too slowly, or something else."""

import os
import re
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, closing

import numpy as np
import pytest
from vla.toy import CONFIG

from rlgen.bench import attack
from rlgen.bench.attack import (
    Siege,
    Watch,
    ask,
    ask_until_closed,
    hostile_messages,
    open_socket,
    read_frame,
    write_frame,
)
from rlgen.bench.serve import load, make_requests
from rlgen.core.errors import UserError
from rlgen.vla.serving import wire
from rlgen.vla.serving.client import PolicyClient
from rlgen.vla.serving.connections import Limits
from rlgen.vla.serving.policy import VlaPolicy
from rlgen.vla.serving.server import PolicyServer, serve_until_signal, serving


@pytest.fixture(scope="module")
def address(policy):
    with serving(PolicyServer(policy, {})) as address:
        yield address


@pytest.fixture(scope="module")
def good(policy):
    return make_requests(policy, 1)[0][0]


def close_code(connection: socket.socket) -> int:
    while True:
        opcode, payload = read_frame(connection)
        if opcode == attack.CLOSE:
            return int.from_bytes(payload[:2], "big")


def test_hostile_messages_are_refused_in_a_line_with_little_memory(policy, address, good):
    [request], [expected] = make_requests(policy, 1)
    client, outcomes = PolicyClient(address), {}
    client.infer(request)
    with Watch(address, os.getpid()) as watch:
        for name, make in hostile_messages(good).items():
            outcomes[name] = ask(address, make())
            np.testing.assert_allclose(client.infer(request)["actions"], expected, atol=1e-4)
    for name, outcome in outcomes.items():
        assert outcome == "closed 1009" if name == "100 MB" else outcome.startswith("refused: "), (name, outcome)
        assert len(outcome) < 600 and "\n" not in outcome and "Traceback" not in outcome, (name, outcome)
    # The messages themselves are made in this process as well.
    assert watch.most_mb - watch.start_mb < 700
    assert max(watch.health_s) < 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("image in -1..1", "observation/image has values from -.* to [01]"),
        ("noise of 3e38", r"noise has values from 3e\+38 to 3e\+38"),
        ("noise of nan", "noise has values from nan to nan"),
        ("prompt of 60,000 characters", "has 60000 characters"),
        ("scalar of 1 GB", "an array of V is not accepted"),
        ("image a million of one pixel", "base_0_rgb has shape"),
        ("state of a million robots", "one observation at a time"),
        ("20 MB of empty maps", "more than 10000 values"),
        ("lists in lists", "nested deeper than 16"),
    ],
)
def test_a_refusal_says_what_is_wrong(address, good, name, message):
    assert re.search(message, ask(address, hostile_messages(good)[name]()))


@pytest.mark.parametrize(
    ("headers", "host"),
    [
        ("Origin: http://evil.example\r\n", None),
        ("Origin: null\r\n", None),
        ("", "evil.example"),
        ("", "evil.example:80"),
    ],
)
def test_pages_of_other_sites_are_not_answered(address, good, headers, host):
    assert ask(address, wire.pack(good), headers, host=host) == "dropped: HTTP/1.1 403 Forbidden"
    request = urllib.request.Request(f"http://{address}/metrics", headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request, timeout=10)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:80", "0.0.0.0:8000"])
def test_this_machine_may_call_itself_by_any_of_its_names(address, good, host):
    assert ask(address, wire.pack(good), host=host) == "answered"


def wait_for_answers(server: PolicyServer, count: int) -> None:
    end = time.monotonic() + 60
    while server.metrics.answers < count:
        assert time.monotonic() < end, "no answers for a minute"
        time.sleep(0.05)


def test_good_clients_are_answered_during_a_siege(policy, good):
    requests, expected = make_requests(policy, 8)
    server = PolicyServer(policy, {}, limits=Limits(connections=24))
    over, report = threading.Event(), {}
    with ExitStack() as stack:
        address = stack.enter_context(serving(server))
        stack.callback(over.set)
        options = {"clients": 4, "count": 10**9, "until": over}
        clients = threading.Thread(target=lambda: report.update(load(address, requests, expected, **options)))
        clients.start()
        wait_for_answers(server, 20)
        siege = Siege(address, good)
        kinds = [kind for kind in siege.kinds if kind != "hostile messages"]
        with Watch(address, os.getpid()) as watch:
            siege.run(4, kinds)
            # On a busy machine clients get little done meanwhile, but they do get on.
            wait_for_answers(server, server.metrics.answers + 8)
        over.set()
        clients.join()
    assert (report["lost"], report["wrong"]) == (0, 0)
    assert siege.answered == [] and set(siege.counts) == set(kinds)
    assert max(watch.health_s) < 10 and watch.most_mb - watch.start_mb < 700


def test_a_large_message_waits_for_its_turn_and_a_slow_one_loses_it(policy, good):
    limits = Limits(message_bytes=10_000_000, message_s=1.5)
    large = wire.pack({**good, attack.IMAGE: np.zeros((1000, 1000, 3), np.uint8)})
    with serving(PolicyServer(policy, {}, limits=limits)) as address, closing(open_socket(address)) as slow:
        slow.sendall(write_frame(bytes(1_000_000), announced=9_000_000))
        time.sleep(0.3)
        # Small messages need no turn.
        assert ask(address, wire.pack(good)) == "answered"
        begun = time.monotonic()
        assert ask(address, large) == "answered"
        assert 0.5 < time.monotonic() - begun < 10
        assert close_code(slow) == 1008
        assert ask(address, bytes(10_000_001)) == "closed 1009"
        assert ask(address, large) == "answered"


def test_idle_connections_give_their_places_to_others(policy, good):
    with serving(PolicyServer(policy, {}, limits=Limits(connections=4))) as address, ExitStack() as stack:
        idle = [stack.enter_context(closing(open_socket(address, upgrade=index % 2 == 0))) for index in range(9)]
        clients = [stack.enter_context(closing(PolicyClient(address))) for _ in range(4)]
        for client in clients:
            client.infer(good)
        with pytest.raises(ConnectionError):
            while True:
                read_frame(idle[0])
        # Those that were answered keep theirs.
        with pytest.raises(UserError, match="503"):
            PolicyClient(address, patience_s=0)
        for client in clients:
            client.infer(good)
        assert urllib.request.urlopen(f"http://{address}/healthz", timeout=10).read() == b"OK\n"


@pytest.mark.parametrize(
    "data", [write_frame(b"", attack.PING), write_frame(b"", 0, final=False)], ids=["pings", "fragments"]
)
def test_floods_of_tiny_frames_are_cut_off(address, data):
    with closing(open_socket(address)) as connection:
        connection.sendall(write_frame(b"", final=False) + 200_000 * data)
        assert close_code(connection) == 1008


def test_a_server_that_stops_answers_what_has_begun(policy, good):
    stack = ExitStack()
    address = stack.enter_context(serving(PolicyServer(policy, {})))
    idle = PolicyClient(address)
    ends = ask_until_closed(address, wire.pack(good), clients=4, stop=stack.close)
    assert ends == [(0, 1001)] * 4
    with pytest.raises(UserError, match="1001"):
        idle.infer(good)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_server(policy, number):
    def stop(port: int) -> None:
        threading.Timer(0.2, os.kill, (os.getpid(), number)).start()

    assert serve_until_signal(PolicyServer(policy, {}), "127.0.0.1", 0, stop) == number


class Faulty(VlaPolicy):
    """A policy whose answers to large noise are not finite, and which has an error of its own."""

    def sample_actions(self, prepared, noise):
        actions = super().sample_actions(prepared, noise)
        actions[np.abs(noise).max((1, 2)) > 50] = np.nan
        return actions

    def prepare(self, sample):
        if sample["prompt"] == "own":
            raise KeyError("/home/somebody/secret")
        return super().prepare(sample)


def make_faulty(policy: VlaPolicy) -> Faulty:
    return Faulty(**{name: getattr(policy, name) for name in VlaPolicy.__dataclass_fields__})


def test_answers_that_are_not_finite_are_errors_of_one_client_alone(policy, good):
    policy = make_faulty(policy)
    large = {**good, "noise": np.full_like(good["noise"], 60)}
    outcomes = []
    with serving(PolicyServer(policy, {})) as address:
        threads = [
            threading.Thread(target=lambda sent=sent: outcomes.append((sent is good, ask(address, wire.pack(sent)))))
            for sent in (good, large) * 4
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [outcome for is_good, outcome in outcomes if is_good] == ["answered"] * 4
    assert all("actions are not finite" in outcome for is_good, outcome in outcomes if not is_good)
    with pytest.raises(UserError, match="actions are not finite"):
        policy.act(policy.prepare({k: np.stack([v]) for k, v in good.items()}), large["noise"][None])


@pytest.mark.parametrize("tracebacks", [False, True])
def test_an_error_of_the_servers_own_is_shown_where_it_runs(policy, good, tracebacks):
    lines: list[str] = []
    server = PolicyServer(make_faulty(policy), {}, tracebacks=tracebacks, log=lines.append)
    with serving(server) as address:
        outcome = ask(address, wire.pack({**good, "prompt": "own"}))
    assert ("secret" in outcome) == ("Traceback" in outcome) == tracebacks
    assert "KeyError" in outcome and "/home/somebody/secret" in lines[0]


def test_a_request_with_actions_of_its_own_harms_no_other(policy, good, address):
    odd = wire.pack({**good, "actions": np.zeros((CONFIG.horizon, 7), np.float32), "action_mask": [True]})
    outcomes: list[str] = []
    threads = [
        threading.Thread(target=lambda m=m: outcomes.append(ask(address, m))) for m in (odd, wire.pack(good)) * 4
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == ["answered"] * 8
