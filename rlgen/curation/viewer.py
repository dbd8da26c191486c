"""Web pages of a dataset's episodes, written as files or served from this machine only."""

from collections.abc import Callable, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from rlgen.core.errors import UserError
from rlgen.core.files import write_bytes
from rlgen.data.card import CARD_JSON, read_card
from rlgen.data.dataset import open_dataset
from rlgen.data.episode import DatasetEpisode
from rlgen.data.index import INDEX, IndexEntry, read_index
from rlgen.report.pages import episode_link, episode_page, index_page

LOOPBACK = "127.0.0.1"
_FACTS_SHOWN = ("format", "view", "picture_size", "mujoco", "licence")  # keys of the card


class Pages:
    """The pages of one dataset, made when they are requested."""

    def __init__(self, directory: Path):
        """Opens the dataset.

        Raises:
          UserError: there is none.
        """
        directory = Path(directory)
        self._episodes: Sequence[DatasetEpisode] = open_dataset(directory)
        indexed = (directory / INDEX).is_file()
        self.entries = read_index(directory) if indexed else _make_index(self._episodes)
        self._facts = {}
        self.name = directory.parent.name
        if (directory / CARD_JSON).is_file():
            card = read_card(directory)
            self.name, self._facts = card["name"], {key.replace("_", " "): str(card[key]) for key in _FACTS_SHOWN}

    def page(self, path: str) -> str | None:
        """Returns the page of a name such as `index.html` or `episode-00003.html`; None if there is none."""
        if path in ("", "index.html"):
            return index_page(self.name, self.entries, self._facts)
        for index, entry in enumerate(self.entries):
            if path == episode_link(index):
                return episode_page(self.name, index, len(self.entries), entry, self._episodes[index])
        return None


def write_pages(directory: Path, out: Path, indices: Sequence[int] | None = None) -> Path:
    """Writes the list of episodes and their pages, and returns the path of the list.

    Args:
      directory: of the dataset.
      out: folder for the pages.
      indices: of the episodes whose pages are written, counted from 0; all by default.

    Raises:
      UserError: no dataset there, or no episode with such an index.
    """
    pages = Pages(directory)
    chosen = range(len(pages.entries)) if indices is None else indices
    for index in chosen:
        if not 0 <= index < len(pages.entries):
            raise UserError(f"{directory}: no episode {index}; it has {len(pages.entries)}, counted from 0")
    for name in ("index.html", *map(episode_link, chosen)):
        write_bytes(out / name, (pages.page(name) or "").encode())
    return out / "index.html"


def make_server(directory: Path, port: int = 0) -> ThreadingHTTPServer:
    """Returns a server of a dataset's pages on the loopback address; for port 0 the system chooses one.

    Raises:
      UserError: no dataset there, or the port is in use.
    """
    pages = Pages(directory)
    try:
        return ThreadingHTTPServer((LOOPBACK, port), partial(_Handler, pages.page))
    except OSError as error:
        raise UserError(f"port {port}: {error.strerror}; choose another --port") from error


class _Handler(BaseHTTPRequestHandler):
    """A handler that replies with pages and does not serve files."""

    def __init__(self, page: Callable[[str], str | None], *arguments: object):
        self._page = page
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        try:
            text, status = self._page(self.path.lstrip("/").split("?")[0]), 200
        except UserError as error:
            text, status = str(error), 500
        if text is None:
            text, status = "no such page", 404
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"text/{'html' if status == 200 else 'plain'}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Logs nothing."""


def _make_index(episodes: Sequence[DatasetEpisode]) -> list[IndexEntry]:
    """Returns an index of a dataset of others, which has none."""
    indexed = ((index, episodes[index]) for index in range(len(episodes)))
    return [IndexEntry("", index, e.file_path, e.language_instruction, len(e)) for index, e in indexed]
