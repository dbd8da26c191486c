"""The policy server as openpi's clients meet it."""

import dataclasses
import re
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from vla.openpi import description
from vla.toy import CONFIG
from websockets.sync.client import connect

from rlgen.bench.serve import load, make_requests, send_garbage
from rlgen.core.errors import UserError
from rlgen.evaluation.backends import ServerBackend
from rlgen.vla.serving import wire
from rlgen.vla.serving.client import PolicyClient
from rlgen.vla.serving.policy import policy_metadata, warm_up
from rlgen.vla.serving.server import PolicyServer, serving


@pytest.fixture(scope="module")
def address(policy):
    with serving(PolicyServer(policy, {"action_horizon": CONFIG.horizon})) as address:
        yield address


def read(address: str, path: str) -> str:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
        return answer.read().decode()


def samples(text: str) -> dict[str, float]:
    """Returns the values of a Prometheus text by name and labels, as a strict reader of the format takes them."""
    kinds, found = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in kinds and kind in ("counter", "gauge", "histogram")
            kinds[name] = kind
        elif not line.startswith("# HELP "):
            name, label, value = re.fullmatch(r'([a-z_]+)(\{le="[^"]+"\})? (\S+)', line).groups()
            family = name if name in kinds else re.sub("_(bucket|sum|count)$", "", name)
            assert kinds[family] == "histogram" if label or name != family else kinds[family] != "histogram"
            assert name + (label or "") not in found and float(value) >= 0
            found[name + (label or "")] = float(value)
    assert text.endswith("\n")
    return found


def test_eight_clients_and_one_that_sends_garbage(policy, address):
    requests, expected = make_requests(policy, 24)
    report = load(address, requests, expected, clients=8, count=1000)
    assert report["answers"] == 1000 and report["wrong"] == report["lost"] == 0
    assert report["garbage"] == report["garbage_refused"] >= 6
    assert 0 < report["p50_ms"] <= report["p95_ms"]
    counted = samples(read(address, "/metrics"))
    assert counted["rlgen_vla_answers_total"] >= 1000
    # Requests of several clients share calls of the model.
    assert counted["rlgen_vla_model_calls_total"] < 0.8 * counted["rlgen_vla_answers_total"]
    assert counted["rlgen_vla_errors_total"] >= report["garbage"]


def test_the_expected_answers_would_notice_a_swap(policy):
    _, expected = make_requests(policy, 24)
    apart = [np.abs(a - b).max() for i, a in enumerate(expected) for b in expected[:i]]
    assert min(apart) > 0.01


def test_what_a_stock_client_sees(policy, address):
    [request], [expected] = make_requests(policy, 1)
    with connect(f"ws://{address}", compression=None, max_size=None) as stock:
        assert wire.unpack(stock.recv()) == {"action_horizon": CONFIG.horizon}
        for times in range(2):
            stock.send(wire.pack(request))
            answer = wire.unpack(stock.recv())
            assert set(answer) == {"actions", "policy_timing", "server_timing"}
            np.testing.assert_allclose(answer["actions"], expected, atol=1e-4)
            assert answer["actions"].dtype == np.float32 and answer["server_timing"]["infer_ms"] > 0
            assert ("prev_total_ms" in answer["server_timing"]) == (times > 0)
    assert read(address, "/healthz").strip() == "OK"


def test_noise_is_the_servers_own_unless_the_client_sends_some(policy, address):
    [request], _ = make_requests(policy, 1)
    client = PolicyClient(address)
    noise = request.pop("noise")
    first, second = (client.infer(request)["actions"] for _ in range(2))
    assert np.abs(first - second).max() > 1e-3
    with pytest.raises(UserError, match="noise of shape"):
        client.infer({**request, "noise": noise[:1]})


def test_an_error_names_what_is_wrong_and_closes_only_that_connection(policy, address):
    [request], [expected] = make_requests(policy, 1)
    good, bad = PolicyClient(address), PolicyClient(address)
    with pytest.raises(UserError, match="the observation has no 'observation/wrist_image'"):
        bad.infer({key: value for key, value in request.items() if "wrist" not in key})
    with pytest.raises(UserError, match="closed the connection"):
        bad.infer(request)
    np.testing.assert_allclose(good.infer(request)["actions"], expected, atol=1e-4)
    assert send_garbage(address, b"\xc1")


def test_an_evaluation_asks_over_several_connections_and_keeps_the_order(policy, address):
    requests, expected = make_requests(policy, 10)
    remote = ServerBackend(address, 3)
    np.testing.assert_allclose(remote(requests, range(10)), expected, atol=1e-4)
    assert remote.name == f"server {address}: action_horizon {CONFIG.horizon}"
    remote.close()


def test_one_observation_a_message(policy, address):
    [request], _ = make_requests(policy, 1)
    many = {key: [value] * 2 if key == "prompt" else np.stack([value] * 2) for key, value in request.items()}
    with pytest.raises(UserError, match="one observation at a time"):
        PolicyClient(address).infer(many)


def test_where_no_server_is_the_client_says_so():
    with pytest.raises(UserError, match=r"no policy server at ws://127\.0\.0\.1:9 "):
        PolicyClient("127.0.0.1:9", patience_s=0)


def test_a_server_that_is_no_policy_is_recognized(policy):
    class Strange(PolicyServer):
        async def _answer(self, connection, message, previous):
            await connection.send(wire.pack({"no": "actions"}))
            return 0.0

    with (
        serving(Strange(policy, {})) as address,
        closing(PolicyClient(address)) as client,
        pytest.raises(UserError, match="without actions"),
    ):
        client.infer({})


def decoded(value):
    """Returns a value of the reference's JSON as Python's."""
    if isinstance(value, dict) and "__dict__" in value:
        return {key: decoded(inner) for key, inner in value["__dict__"]}
    if isinstance(value, dict) and "__list__" in value:
        return [decoded(inner) for inner in value["__list__"]]
    if isinstance(value, dict) and "__nd__" in value:
        flat = np.frombuffer(bytes.fromhex(value["c_order_hex"]), np.dtype(value["__nd__"]))
        return flat.reshape(value["shape"])
    if isinstance(value, dict) and "__scalar__" in value:
        return np.dtype(value["__scalar__"]).type(value["value"])
    return value


def same(a, b) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and np.shape(a) == np.shape(b) and np.array_equal(a, b)
    return type(a) is type(b) and a == b


def test_messages_are_the_references_bytes_both_ways():
    cases = description("msgpack")["cases"]
    assert cases
    for case in cases:
        value = decoded(case["value"])
        assert wire.pack(value).hex() == case["hex"], case["name"]
        assert same(wire.unpack(bytes.fromhex(case["hex"])), value), case["name"]


def test_arrays_in_any_order_of_memory_are_sent_by_rows():
    array = np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3))
    np.testing.assert_array_equal(wire.unpack(wire.pack({"a": array}))["a"], array)


def test_what_the_format_refuses_is_refused():
    import ml_dtypes

    rejected = {
        "object": np.array([None], object),
        "complex": np.zeros(2, complex),
        "void": np.zeros(2, "V4"),
        "bfloat16": np.zeros(2, ml_dtypes.bfloat16),
    }
    assert set() < {kind for kind, error in description("msgpack")["rejected_arrays"]} <= set(rejected)
    for array in rejected.values():
        with pytest.raises(ValueError):
            wire.pack({"x": array})
    for sent in ({b"dtype": "|O"}, {b"dtype": "nonsense"}, {b"shape": [99]}, {b"shape": None}, {b"data": None}):
        message = {b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": "<f8", b"shape": [1], **sent}
        with pytest.raises(ValueError):
            wire.unpack(wire.pack(message))


def test_metrics_count_what_happened(policy):
    [request], _ = make_requests(policy, 1)
    with serving(PolicyServer(policy, {})) as address, closing(PolicyClient(address)) as client:
        for _ in range(3):
            client.infer(request)
        assert send_garbage(address, b"\xc1")
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            assert answer.headers.get_all("Content-Type") == ["text/plain; version=0.0.4; charset=utf-8"]
            found = samples(answer.read().decode())
    expected = {"requests_total": 4, "answers_total": 3, "errors_total": 1, "model_calls_total": 3, "connections": 1}
    expected |= {"queue": 0, "answer_seconds_count": 3, 'batch_size_bucket{le="1"}': 3, "batch_size_sum": 3}
    assert {name: found[f"rlgen_vla_{name}"] for name in expected} == expected
    assert 0 < found["rlgen_vla_model_call_seconds_sum"] < found["rlgen_vla_answer_seconds_sum"]


def test_larger_calls_are_compiled_while_smaller_ones_answer(policy):
    """And taken from then on: a batch is full, and not before, when it has as many requests as its call."""
    bucketed = dataclasses.replace(policy, buckets=True)
    warm_up(bucketed, [1])
    requests, expected = make_requests(policy, 4)
    server = PolicyServer(bucketed, {}, compiled=1, window_s=60.0)
    with serving(server) as address, ThreadPoolExecutor(4) as threads:
        clients = [PolicyClient(address) for _ in requests]
        # Calls of one observation are full with one, so that it does not wait for the window.
        np.testing.assert_allclose(clients[0].infer(requests[0])["actions"], expected[0], atol=1e-4)
        while samples(read(address, "/metrics"))["rlgen_vla_batch_limit"] < 4:
            time.sleep(0.05)
        answers = list(threads.map(lambda client, request: client.infer(request)["actions"], clients, requests))
        np.testing.assert_allclose(answers, expected, atol=1e-4)
        assert samples(server.metrics.text())['rlgen_vla_batch_size_bucket{le="4"}'] == 2
        for client in clients:
            client.close()


def test_clients_get_the_name_of_a_policy_and_not_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path / "runs" / "milk", Path("runs/milk"), Path("runs/milk/../milk")):
        assert policy_metadata(folder, 10) == {"robot": "libero", "action_horizon": 10, "policy": "milk"}
