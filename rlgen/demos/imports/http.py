"""HTTP with retries, and files that go on where a broken connection left them."""

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
_LATER = (408, 429)  # of the answers that blame the asker, those that another attempt may change


class _Broken(Exception):
    """A connection that broke, stalled or was refused."""


@dataclass(frozen=True)
class Answer:
    """The body and the headers of an answer."""

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Http:
    """How patient to be.

    Attributes:
      timeout: seconds without a byte after which a connection counts as broken.
      tries: attempts without progress before giving up.
      pause: seconds before the second attempt; doubles with each.
    """

    timeout: float = 30.0
    tries: int = 5
    pause: float = 1.0

    def get(self, url: str) -> Answer:
        """A small answer as a whole.

        Raises:
          UserError: it cannot be had.
        """
        for attempt in range(self.tries):
            try:
                with _opened(url, self.timeout) as answer:
                    return Answer(_read(answer), answer.headers)
            except _Broken as error:
                self._wait(url, error, attempt)
        raise AssertionError("unreachable: the last attempt raises")

    def fetch(self, url: str, part: Path, size: int) -> None:
        """Appends what `part` still lacks of `size` bytes.

        Args:
          url: of the file.
          part: what is there of it; made if absent.
          size: of the whole file.

        Raises:
          UserError: it cannot be had. What came stays in `part`.
          OSError: the disk refuses.
        """
        attempt = 0
        while (have := _size(part)) < size:
            try:
                self._append(url, part, have, size)
                if _size(part) < size:
                    raise _Broken("the answer ended early")
            except _Broken as error:
                attempt = 0 if _size(part) > have else attempt
                self._wait(url, error, attempt)
                attempt += 1

    def _append(self, url: str, part: Path, have: int, size: int) -> None:
        with _opened(url, self.timeout, start=have) as answer:
            # A server that knows no ranges sends the whole file again.
            goes_on = have > 0 and answer.status == 206
            with open(part, "ab" if goes_on else "wb") as file:
                left = size - have if goes_on else size
                while left and (block := _read(answer, min(_BLOCK, left))):
                    left -= file.write(block)
                file.flush()
                os.fsync(file.fileno())

    def _wait(self, url: str, error: _Broken, attempt: int) -> None:
        """Before another attempt; raises if there is to be none."""
        if attempt + 1 >= self.tries:
            raise UserError(f"no network, or no answer from {url} ({error}); try again later") from error
        time.sleep(self.pause * 2**attempt)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextmanager
def _opened(url: str, timeout: float, *, start: int = 0) -> Iterator[http.client.HTTPResponse]:
    headers = {"User-Agent": "rlgen", **({"Range": f"bytes={start}-"} if start else {})}
    with _network(url):
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    with answer:
        yield answer


def _read(answer: http.client.HTTPResponse, count: int | None = None) -> bytes:
    with _network(answer.url):
        return answer.read(count)


@contextmanager
def _network(url: str) -> Iterator[None]:
    """Sorts what a connection raises into what may pass and what will not."""
    try:
        yield
    except urllib.error.HTTPError as error:
        told = f"{error.code} {error.reason}"
        if 400 <= error.code < 500 and error.code not in _LATER:
            raise UserError(f"{url}: the server says {told}; check the address") from error
        raise _Broken(f"the server says {told}") from error
    except urllib.error.URLError as error:
        raise _Broken(str(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(str(error) or type(error).__name__) from error
