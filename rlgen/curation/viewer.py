"""`rlgen data show`: pages of a dataset, served on this machine alone or written as files."""

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
_TOLD = ("format", "view", "picture_size", "mujoco", "licence")


class Pages:
    """The pages of one dataset, made when they are asked for."""

    def __init__(self, directory: Path):
        """`UserError` where there is no dataset."""
        directory = Path(directory)
        self._episodes: Sequence[DatasetEpisode] = open_dataset(directory)
        known = (directory / INDEX).is_file()
        self.entries = read_index(directory) if known else _index_of(self._episodes)
        self._facts = {}
        self.name = directory.parent.name
        if (directory / CARD_JSON).is_file():
            card = read_card(directory)
            self.name, self._facts = card["name"], {key.replace("_", " "): str(card[key]) for key in _TOLD}

    def page(self, path: str) -> str | None:
        """The page of a name such as `index.html` or `episode-00003.html`; None if there is none."""
        if path in ("", "index.html"):
            return index_page(self.name, self.entries, self._facts)
        for number, entry in enumerate(self.entries):
            if path == episode_link(number):
                return episode_page(self.name, number, len(self.entries), entry, self._episodes[number])
        return None


def write_pages(directory: Path, out: Path, numbers: Sequence[int] | None = None) -> Path:
    """Writes the list and the pages of episodes (of all by default) into `out`, and returns the list.

    Raises:
      UserError: no dataset there, or no episode of such a number.
    """
    pages = Pages(directory)
    chosen = range(len(pages.entries)) if numbers is None else numbers
    for number in chosen:
        if not 0 <= number < len(pages.entries):
            raise UserError(f"{directory}: no episode {number}; it has {len(pages.entries)}, counted from 0")
    for name in ("index.html", *map(episode_link, chosen)):
        write_bytes(out / name, (pages.page(name) or "").encode())
    return out / "index.html"


def make_server(directory: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of a dataset's pages on the loopback address; the system chooses the port where it is 0.

    Raises:
      UserError: no dataset there, or the port is taken.
    """
    pages = Pages(directory)
    try:
        return ThreadingHTTPServer((LOOPBACK, port), partial(_Handler, pages.page))
    except OSError as error:
        raise UserError(f"port {port}: {error.strerror}; choose another --port") from error


class _Handler(BaseHTTPRequestHandler):
    """Answers with pages; knows no files."""

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
        """Says nothing."""


def _index_of(episodes: Sequence[DatasetEpisode]) -> list[IndexEntry]:
    """An index of somebody else's dataset."""
    entries = (episodes[number] for number in range(len(episodes)))
    return [IndexEntry("", n, e.file_path, e.language_instruction, len(e)) for n, e in enumerate(entries)]
