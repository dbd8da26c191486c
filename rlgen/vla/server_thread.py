"""A policy server in a thread of this process, for tests and benchmarks."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rlgen.vla.server import PolicyServer


@contextmanager
def serving(server: PolicyServer, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Runs a server and yields its address, `host:port`; stops it at the end."""
    ready, found = threading.Event(), []
    loop = asyncio.new_event_loop()

    def tell(port: int) -> None:
        found.append(port)
        ready.set()

    task = loop.create_task(server.run(host, port, tell))

    def work() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        ready.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    ready.wait()
    if not found:
        raise OSError(f"no server on {host}:{port}")
    try:
        yield f"{host}:{found[0]}"
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(timeout=10)
