"""Web pages of the episodes of one dataset, or of two side by side: as files, or served from this machine only."""

import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rlgen.core.addresses import LOOPBACK, refusal, require_port
from rlgen.core.errors import UserError, first_line
from rlgen.core.files import write_bytes
from rlgen.core.ownership import check_file, only_writer
from rlgen.curation.pairs import pair_episodes, read_episode_facts
from rlgen.data.card import CARD_JSON, read_card
from rlgen.data.dataset import open_dataset
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.rlds.reader import RldsDataset
from rlgen.data.index import IndexedDataset, IndexEntry
from rlgen.report.episode_list import LETTERS, ShownDataset, episode_link, index_page
from rlgen.report.episode_page import episode_page
from rlgen.report.pages import is_page

MOST_CONNECTIONS = 32
CONNECTION_S = 120.0
"""Seconds after which a connection ends, idle or slow; a page takes one or two, more through a slow tunnel."""
_FACTS_SHOWN = ("format", "view", "picture_size", "mujoco", "licence")  # keys of the card


class Pages:
    """The pages of one dataset, or of two side by side, made when they are requested."""

    def __init__(self, directories: Sequence[Path], split: str | None = None):
        """Opens one or two datasets; `split` as of `open_dataset`.

        Raises:
          UserError: there is none, or another number of them.
        """
        if not 1 <= len(directories) <= len(LETTERS):
            raise UserError(f"{len(directories)} datasets: name one, or two to be shown side by side")
        self.directories = [Path(directory) for directory in directories]
        self._episodes = [open_dataset(directory, split) for directory in self.directories]
        both = zip(self.directories, self._episodes, strict=True)
        self.datasets = [_describe(directory, episodes) for directory, episodes in both]
        first, *others = (dataset.episodes for dataset in self.datasets)
        self.rows = pair_episodes(first, *others) if others else [(index,) for index in range(len(first))]
        self._indices = {episode_link(index): index for index in range(len(self.rows))}

    def page(self, path: str) -> str | None:
        """Returns the page of a name such as `index.html` or `episode-00003.html`; None if there is none."""
        if path in ("", "index.html"):
            return index_page(self.datasets, self.rows)
        return self._episode_page(self._indices[path]) if path in self._indices else None

    def _episode_page(self, index: int) -> str:
        row = self.rows[index]
        episodes = [None if at is None else of[at] for of, at in zip(self._episodes, row, strict=True)]
        try:
            return episode_page(self.datasets, self.rows, index, episodes)
        except UserError as error:  # of an image
            shown = [d for d, at in zip(self.directories, row, strict=True) if at is not None]
            raise UserError(f"{' or '.join(map(str, shown))}: {error}") from error


def write_pages(
    directories: Sequence[Path], out: Path, indices: Sequence[int] | None = None, split: str | None = None
) -> Path:
    """Writes the list of episodes and their pages, and returns the path of the list.

    Args:
      directories: of one dataset, or of two that are shown side by side.
      out: folder for the pages.
      indices: of the episodes whose pages are written, counted from 0 (of two datasets, those of the first); all by
        default.
      split: as of `open_dataset`.

    Raises:
      UserError: no dataset there, or no episode with such an index.
    """
    pages = Pages(directories, split)
    chosen = range(len(pages.rows)) if indices is None else indices
    count = len(pages.rows) if indices is None else len(pages.datasets[0].episodes)
    for index in chosen:
        if not 0 <= index < count:
            raise UserError(f"{pages.directories[0]}: no episode {index}; it has {count}, counted from 0")
    names = ("index.html", *map(episode_link, chosen))
    for name in names:
        check_file(out / name, is_page, noun="a page")
    with only_writer(out):
        for name in names:
            write_bytes(out / name, (pages.page(name) or "").encode(errors="replace"))
    return out / "index.html"


def make_server(directories: Sequence[Path], port: int = 0, split: str | None = None) -> ThreadingHTTPServer:
    """Returns a server of the pages of datasets on the loopback address.

    Args:
      directories: of one dataset, or of two that are shown side by side.
      port: to listen on; for 0 the system chooses one.
      split: as of `open_dataset`.

    Raises:
      UserError: no dataset there, or the port is in use.
    """
    require_port(port)
    pages = Pages(directories, split)
    try:
        return _Server((LOOPBACK, port), partial(_Handler, pages.page))
    except OSError as error:
        raise UserError(f"port {port}: {error.strerror}; choose another --port") from error


class _Server(ThreadingHTTPServer):
    """A server with a limited number of connections, each open for a limited time."""

    def __init__(self, address: tuple[str, int], handler: Callable[..., BaseHTTPRequestHandler]):
        self._deadlines: dict[socket.socket, float] = {}
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answers a connection in a thread of its own; the oldest one ends if there are too many."""
        oldest = list(self._deadlines)[: len(self._deadlines) + 1 - MOST_CONNECTIONS]
        for other in oldest:
            self._end(other)
        self._deadlines[request] = time.monotonic() + CONNECTION_S
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection."""
        self._deadlines.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Ends connections that have been open for too long; called twice a second."""
        now = time.monotonic()
        for request, deadline in list(self._deadlines.items()):
            if now > deadline:
                self._end(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Does nothing: a browser that leaves is no error, and the pages' own errors are answered."""

    def _end(self, request: socket.socket) -> None:
        """Wakes the thread of a connection, which then closes it."""
        self._deadlines.pop(request, None)
        with suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """A handler that replies with pages and does not serve files."""

    def __init__(self, page: Callable[[str], str | None], *arguments: object):
        self._page = page
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        reason = refusal(LOOPBACK, self.headers.get_all("Host", []), self.headers.get_all("Origin", []))
        if reason is not None:
            return self._reply(reason, 403)
        try:
            text = self._page(self.path.lstrip("/").split("?")[0])
        except UserError as error:
            return self._reply(str(error), 500)
        except Exception as error:
            return self._reply(f"this page cannot be made ({first_line(error)})", 500)
        if text is None:
            return self._reply("no such page", 404)
        self._reply(text, 200)

    def _reply(self, text: str, status: int) -> None:
        body = text.encode(errors="replace")
        self.send_response(status)
        self.send_header("Content-Type", f"text/{'html' if status == 200 else 'plain'}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Logs nothing."""


def _describe(directory: Path, episodes: RldsDataset | IndexedDataset) -> ShownDataset:
    """Returns what is shown of a dataset and its episodes without their images."""
    entries = episodes.entries or _make_index(episodes)
    card = read_card(directory) if (directory / CARD_JSON).is_file() else None
    name = directory.parent.name if card is None else card["name"]
    facts = {} if card is None else {key.replace("_", " "): str(card[key]) for key in _FACTS_SHOWN}
    return ShownDataset(name, facts, read_episode_facts(directory, entries, card))


def _make_index(episodes: Sequence[DatasetEpisode]) -> list[IndexEntry]:
    """Returns an index of a dataset of others, which has none."""
    indexed = ((index, episodes[index]) for index in range(len(episodes)))
    return [IndexEntry("", index, e.file_path, e.language_instruction, len(e)) for index, e in indexed]
