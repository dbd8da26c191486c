"""An HTTP client with retries, which resumes files where a broken connection left them."""

import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rlgen.core.errors import UserError

_BLOCK = 1 << 20
# Bytes of a response that is read as a whole; a page of the hub's list has some hundred thousand.
LARGEST_RESPONSE = 16 << 20
# Times the timeout in which such a response must have come.
_PATIENCE = 4
# Statuses from 400 to 499 that another try may change: request timeout, too many requests.
_RETRY_STATUSES = (408, 429)


class _LostConnectionError(Exception):
    """A connection that broke, stalled or was refused."""


@dataclass(frozen=True)
class Response:
    """The body and the headers of a response."""

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class HttpClient:
    """A client that tries again after broken connections.

    Attributes:
      timeout: seconds without a byte after which a connection counts as broken.
      tries: tries without progress before it gives up.
      pause: seconds before the second try; doubles with each.
    """

    timeout: float = 30.0
    tries: int = 5
    pause: float = 1.0

    def get(self, url: str) -> Response:
        """Returns a small response as a whole.

        Raises:
          UserError: the server refuses, cannot be reached, or sends more than `LARGEST_RESPONSE`.
        """
        for trial in range(self.tries):
            try:
                with _open(url, self.timeout) as response:
                    return Response(self._read_small(response), response.headers)
            except _LostConnectionError as error:
                self._wait(url, error, trial)
        raise AssertionError("unreachable: the last try raises")

    def fetch(self, url: str, part: Path, size: int) -> None:
        """Appends the missing bytes of a file to its first part.

        Args:
          url: of the file.
          part: first bytes of the file; created if absent.
          size: of the whole file, bytes.

        Raises:
          UserError: the server refuses, or cannot be reached. The bytes that arrived stay in `part`.
          OSError: the disk refuses.
        """
        failures = 0
        while (have := _size(part)) < size:
            try:
                self._append(url, part, have, size)
                if _size(part) < size:
                    raise _LostConnectionError("the response ended early")
            except _LostConnectionError as error:
                failures = 0 if _size(part) > have else failures
                self._wait(url, error, failures)
                failures += 1

    def _read_small(self, response: http.client.HTTPResponse) -> bytes:
        body, deadline = bytearray(), time.monotonic() + _PATIENCE * self.timeout
        while block := _read(response, _BLOCK, partial=True):
            body += block
            if len(body) > LARGEST_RESPONSE:
                raise UserError(f"{response.url}: sends more than {LARGEST_RESPONSE} bytes; check the address")
            if time.monotonic() > deadline:
                raise _LostConnectionError(f"not complete after {_PATIENCE * self.timeout:g} s")
        if response.length:
            raise _LostConnectionError("the response ended early")
        return bytes(body)

    def _append(self, url: str, part: Path, have: int, size: int) -> None:
        with _open(url, self.timeout, start=have) as response:
            # A server without support of ranges sends the whole file again.
            resumes = have > 0 and response.status == 206
            with open(part, "ab" if resumes else "wb") as file:
                left = size - have if resumes else size
                while left and (block := _read(response, min(_BLOCK, left))):
                    left -= file.write(block)
                file.flush()
                os.fsync(file.fileno())

    def _wait(self, url: str, error: _LostConnectionError, failures: int) -> None:
        """Waits before the next try; raises if there is none."""
        if failures + 1 >= self.tries:
            raise UserError(f"no network, or no answer from {url} ({error}); try again later") from error
        time.sleep(self.pause * 2**failures)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextmanager
def _open(url: str, timeout: float, *, start: int = 0) -> Iterator[http.client.HTTPResponse]:
    headers = {"User-Agent": "rlgen", **({"Range": f"bytes={start}-"} if start else {})}
    with _network_errors(url):
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    with response:
        yield response


def _read(response: http.client.HTTPResponse, count: int, *, partial: bool = False) -> bytes:
    """Reads up to `count` bytes; `partial` returns as soon as there are some."""
    with _network_errors(response.url):
        return response.read1(count) if partial else response.read(count)


@contextmanager
def _network_errors(url: str) -> Iterator[None]:
    """Translates errors of a connection: those that may pass into broken connections, others into user errors."""
    try:
        yield
    except urllib.error.HTTPError as error:
        status = f"{error.code} {error.reason}"
        if 400 <= error.code < 500 and error.code not in _RETRY_STATUSES:
            raise UserError(f"{url}: the server says {status}; check the address") from error
        raise _LostConnectionError(f"the server says {status}") from error
    except urllib.error.URLError as error:
        raise _LostConnectionError(str(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _LostConnectionError(str(error) or type(error).__name__) from error
