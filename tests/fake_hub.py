"""A small server of the part of the Hugging Face hub's interface that pushing and pulling datasets uses, on loopback.

It keeps repositories in memory, and counts what it was sent. Small texts are stored as they are, all else as "large".
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_right"
SMALL = 2_000


@dataclass
class Repo:
    """A repository: its commits, each with all files by their paths, and its tags."""

    private: bool = False
    commits: list[dict[str, bytes]] = field(default_factory=lambda: [{".gitattributes": b"*.bin filter=lfs\n"}])
    tags: dict[str, int] = field(default_factory=dict)

    def at(self, revision: str) -> int | None:
        """Returns the number of a commit."""
        if revision == "main":
            return len(self.commits) - 1
        named = {commit_id(number): number for number in range(len(self.commits))} | self.tags
        return named.get(revision)


@dataclass
class Hub:
    """The server's state.

    Attributes:
      repos: by `USER/NAME`.
      blobs: large files that were uploaded, whether or not a commit has them.
      puts: hashes of the large files that were sent, in order.
      requests: method and path of all requests.
      refuse_put: number of the upload that is refused, to interrupt a push.
      corrupt: path of a file whose bytes are sent changed.
    """

    repos: dict[str, Repo] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    puts: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    refuse_put: int | None = None
    corrupt: str | None = None
    endpoint: str = ""


def commit_id(number: int) -> str:
    """Returns the identifier of a commit."""
    return f"{number:040x}"


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Serves an empty hub."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        words = [unquote(word) for word in parts.path.strip("/").split("/")]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(f"{self.command} {parts.path}")
        if words[0] == "upload":
            return self._put(words[1], body)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._json({"error": "Invalid credentials in Authorization header"}, 401)
        if words == ["api", "repos", "create"]:
            return self._create(json.loads(body))
        if words == ["api", "validate-yaml"]:
            return self._json({"warnings": [], "errors": []})
        of_api, words = words[0] == "api", words[1:] if words[0] == "api" else words
        name = "/".join(words[1:3]).removesuffix(".git")
        repo = self.hub.repos.get(name)
        if repo is None:
            return self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        if not of_api and words[3:] == ["info", "lfs", "objects", "batch"]:
            return self._batch(json.loads(body))
        if not of_api and words[3] == "resolve":
            return self._resolve(repo, words[4], "/".join(words[5:]))
        action, rest = (words[3], words[4:]) if len(words) > 3 else ("revision", ["main"])
        getattr(self, f"_{self.command.lower()}_{action}".replace("-", "_"))(repo, name, rest, body)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _handle

    def _json(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, data: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _create(self, asked: dict) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        url = {"url": f"{self.hub.endpoint}/datasets/{name}", "name": name}
        if name in self.hub.repos:
            return self._json({"error": "You already created this dataset repo", **url}, 409)
        self.hub.repos[name] = Repo(private=asked.get("visibility") == "private" or bool(asked.get("private")))
        return self._json(url)

    def _put(self, oid: str, body: bytes) -> None:
        self.hub.puts.append(oid)
        if self.hub.refuse_put is not None and len(self.hub.puts) > self.hub.refuse_put:
            return self._json({"error": "interrupted"}, 400)
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.blobs[oid] = body
        return self._send(b"", 200, {})

    def _batch(self, asked: dict) -> None:
        objects = []
        for wanted in asked["objects"]:
            upload = {"upload": {"href": f"{self.hub.endpoint}/upload/{wanted['oid']}"}}
            objects.append(wanted if wanted["oid"] in self.hub.blobs else {**wanted, "actions": upload})
        self._json({"transfer": "basic", "objects": objects})

    def _post_preupload(self, repo: Repo, name: str, rest: list[str], body: bytes) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "regular"
                if file["size"] < SMALL and b"\0" not in base64.b64decode(file["sample"])
                else "lfs",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self._json({"files": files})

    def _post_commit(self, repo: Repo, name: str, rest: list[str], body: bytes) -> None:
        files = dict(repo.commits[-1])
        for line in body.splitlines():
            entry = json.loads(line)
            key, value = entry["key"], entry["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        repo.commits.append(files)
        oid = commit_id(len(repo.commits) - 1)
        self._json({"commitUrl": f"{self.hub.endpoint}/{name}/commit/{oid}", "commitOid": oid, "success": True})

    def _get_revision(self, repo: Repo, name: str, rest: list[str], body: bytes) -> None:
        number = repo.at(rest[0])
        if number is None:
            return self._json({"error": "no revision"}, 404, {"X-Error-Code": "RevisionNotFound"})
        files = [{"rfilename": path} for path in repo.commits[number]]
        return self._json({"id": name, "sha": commit_id(number), "siblings": files, "private": False, "tags": []})

    def _get_tree(self, repo: Repo, name: str, rest: list[str], body: bytes) -> None:
        number = repo.at(rest[0])
        if number is None:
            return self._json({"error": "no revision"}, 404, {"X-Error-Code": "RevisionNotFound"})
        return self._json([_entry(path, data) for path, data in repo.commits[number].items()])

    def _get_refs(self, repo: Repo, name: str, rest: list[str], body: bytes) -> None:
        def refs(kind: str, named: dict[str, int]) -> list[dict[str, str]]:
            return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": commit_id(at)} for n, at in named.items()]

        self._json(
            {"branches": refs("heads", {"main": repo.at("main")}), "tags": refs("tags", repo.tags), "converts": []}
        )

    def _post_tag(self, repo: Repo, name: str, rest: list[str], body: bytes) -> None:
        tag = json.loads(body)["tag"]
        if tag in repo.tags:
            return self._json({"error": "tag exists"}, 409)
        repo.tags[tag] = repo.at(rest[0])
        return self._json({})

    def _delete_tag(self, repo: Repo, name: str, rest: list[str], body: bytes) -> None:
        del repo.tags[rest[0]]
        self._json({})

    def _resolve(self, repo: Repo, revision: str, path: str) -> None:
        number = repo.at(revision)
        if number is None or path not in repo.commits[number]:
            return self._json({"error": "no entry"}, 404, {"X-Error-Code": "EntryNotFound"})
        data = repo.commits[number][path]
        if path == self.hub.corrupt:
            data = data[:-1] + bytes([data[-1] ^ 1])
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": commit_id(number)}
        return self._send(data, 200, headers)


def _entry(path: str, data: bytes) -> dict[str, object]:
    """Returns the entry of a file in a repository's tree."""
    entry = {"type": "file", "path": path, "size": len(data)}
    if len(data) < SMALL and b"\0" not in data[:512]:
        return {**entry, "oid": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}
    lfs = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return {**entry, "oid": "0" * 40, "lfs": lfs}
