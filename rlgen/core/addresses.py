"""Ports, addresses, and requests that a server on this machine must not answer.

A page in a browser can send requests to servers of the browser's own machine, although nobody else can reach them. It
says so in `Origin`; where it hides behind a name of its own that resolves to this machine, `Host` has that name.
"""

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from rlgen.core.errors import UserError

LOOPBACK = "127.0.0.1"


def require_port(port: int) -> None:
    """Raises `UserError` for a `--port` that no server can listen on; 0 is any free one."""
    if not 0 <= port <= 65535:
        raise UserError(f"--port {port}: expected 1 to 65535, or 0 for any free port")


def is_loopback(host: str) -> bool:
    """Returns whether a name or an address means this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def refusal(listening: str, hosts: Sequence[str], origins: Sequence[str]) -> str | None:
    """Returns why a request must not be answered; None where it may be.

    Args:
      listening: address on which the server listens.
      hosts: the request's `Host` headers.
      origins: its `Origin` headers.
    """
    if origins:
        return f"a request of the page {origins[0][:100]}; pages of other sites are not answered"
    if is_loopback(listening):
        for host in hosts:
            name = _without_port(host)
            # The latter are how openpi's client calls its own machine.
            if not is_loopback(name) and name not in ("0.0.0.0", "[::]"):
                return f"a request to {host[:100]}; this server is called localhost, or {LOOPBACK}"
    return None


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() and not name.endswith(":") else host


def websocket_url(address: str) -> str:
    """Returns the URL of a server.

    Args:
      address: `host:port`, or a URL that begins with ws:// or wss://.

    Raises:
      UserError: it is neither.
    """
    url = address if "://" in address else f"ws://{address}"
    try:
        parts = urlsplit(url)
        complete = parts.scheme in ("ws", "wss") and bool(parts.hostname) and (url == address or bool(parts.port))
    except ValueError:
        complete = False
    if not complete:
        raise UserError(f"server {address!r}: expected host:port, such as localhost:8000")
    return url
