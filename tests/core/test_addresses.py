import pytest

from rlgen.core.addresses import is_loopback, refusal, require_port, websocket_url
from rlgen.core.errors import UserError


@pytest.mark.parametrize("port", [-1, 65536, 99999])
def test_ports_that_are_none_are_refused(port):
    with pytest.raises(UserError, match=f"--port {port}: expected 1 to 65535"):
        require_port(port)
    require_port(0)
    require_port(65535)


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("192.168.1.4", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)
def test_names_of_this_machine_are_known(host, is_ours):
    assert is_loopback(host) == is_ours
    for named in (host, f"{host}:8000"):
        if host != "0.0.0.0" and (":" not in host or host.startswith("[")):
            assert (refusal("127.0.0.1", [named], []) is None) == is_ours


def test_pages_of_other_sites_are_refused():
    assert "evil.example" in (refusal("127.0.0.1", ["localhost:1"], ["http://evil.example"]) or "")
    assert refusal("0.0.0.0", ["robot.lab:1"], ["null"]) is not None
    # Who can be reached by others has names that it does not know.
    assert refusal("0.0.0.0", ["robot.lab:1"], []) is None
    assert refusal("127.0.0.1", [], []) is None
    # openpi's client calls its own machine so if nothing else is said.
    assert refusal("127.0.0.1", ["0.0.0.0:8000"], []) is None


@pytest.mark.parametrize(
    "address", ["localhost", "localhost:x", "localhost:99999", "http://localhost:1", ":8000", "", "ws://"]
)
def test_addresses_without_a_port_are_refused(address):
    with pytest.raises(UserError, match="expected host:port"):
        websocket_url(address)


def test_addresses_become_urls():
    assert websocket_url("localhost:8000") == "ws://localhost:8000"
    assert websocket_url("[::1]:8000") == "ws://[::1]:8000"
    assert websocket_url("wss://policy.example/a") == "wss://policy.example/a"
