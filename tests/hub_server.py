"""A small Hub on 127.0.0.1: the parts of its HTTP protocol that the real clients speak to list and read."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

COMMIT = "1" * 40
PAGE_ROWS = 3  # a page of a listing: small, so that clients have to follow the links
TOKEN = "hf_a_token_that_may_read_gated_repositories"
MAIN, CONVERTED = "main", "refs/convert/parquet"


@dataclass
class Repo:
    """A repository: what the API says of it, and its files by revision."""

    id: str
    kind: str = "models"
    info: dict[str, Any] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: bool = False

    def described(self, expand: list[str]) -> dict[str, Any]:
        """The API's answer: the default properties, or those asked for."""
        files = self.files.get(MAIN, {})
        known = {
            "sha": COMMIT,
            "gated": "auto" if self.gated else False,
            "private": False,
            "downloads": 0,
            "tags": [],
            "siblings": [{"rfilename": name} for name in files],
            **self.info,
        }
        return {"id": self.id, **{key: value for key, value in known.items() if not expand or key in expand}}


@dataclass
class Hub:
    """What the server holds, how it misbehaves, and what it was asked."""

    repos: list[Repo] = field(default_factory=list)
    url: str = ""
    delay_seconds: float = 0.0
    moved: dict[str, str] = field(default_factory=dict)
    """Old ids and the ids that they redirect to."""
    failure: int = 0
    """An HTTP status that every request is answered with."""
    asked: list[str] = field(default_factory=list)
    """`METHOD /path` of every request."""
    sent_bytes: int = 0
    """Bytes of files that were sent."""
    released: threading.Event = field(default_factory=threading.Event)
    """Ends every delay, so that a test does not wait for a slow server to stop."""

    def add(self, repo: Repo) -> Repo:
        self.repos.append(repo)
        return repo

    def find(self, kind: str, path: str) -> tuple[Repo, str] | None:
        """The repository whose id the path begins with, and the rest of the path."""
        for repo in self.repos:
            if repo.kind == kind and (path == repo.id or path.startswith(f"{repo.id}/")):
                return repo, path.removeprefix(repo.id).lstrip("/")
        return None


@contextmanager
def serve() -> Iterator[Hub]:
    """A running server; it stops at the end of the block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        self._route()

    def do_HEAD(self) -> None:
        self._route()

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self._route(self.rfile.read(length))

    def log_message(self, *parts: object) -> None:
        """Silent."""

    def _route(self, body: bytes = b"") -> None:
        parts = urlsplit(self.path)
        path, query = parts.path, parse_qs(parts.query)
        self.hub.asked.append(f"{self.command} {unquote(self.path)}")
        if self.hub.delay_seconds:
            self.hub.released.wait(self.hub.delay_seconds)
        if self.hub.failure:
            return self._error(self.hub.failure, "", "the server was told to fail")
        if match := re.fullmatch(r"/api/(models|datasets)", path):
            return self._list(match[1], query)
        if match := re.fullmatch(r"/api/(models|datasets)/(.+)", path):
            return self._repo(match[1], match[2], query, body)
        if match := re.fullmatch(r"/(datasets/)?(.+)/resolve/([^/]+)/(.+)", path):
            return self._file("datasets" if match[1] else "models", match[2], unquote(match[3]), unquote(match[4]))
        return self._error(404, "", "no such page")

    def _list(self, kind: str, query: dict[str, list[str]]) -> None:
        """Repositories by filter and search words, sorted, a page at a time."""
        wanted, words = query.get("filter", []), query.get("search", [""])[0].lower()
        found = [
            repo
            for repo in self.hub.repos
            if repo.kind == kind
            and words in repo.id.lower()
            and set(wanted) <= {*repo.info.get("tags", []), repo.info.get("pipeline_tag")}
        ]
        if query.get("sort") == ["downloads"]:
            found.sort(key=lambda repo: -repo.info.get("downloads", 0))
        start = int(query.get("cursor", ["0"])[0])
        page = found[start : start + PAGE_ROWS]
        headers = {}
        if start + PAGE_ROWS < len(found):
            rest = "&".join(f"{key}={quote(v)}" for key, values in query.items() if key != "cursor" for v in values)
            headers["Link"] = f'<{self.hub.url}/api/{kind}?{rest}&cursor={start + PAGE_ROWS}>; rel="next"'
        self._json([repo.described(query.get("expand", [])) for repo in page], headers)

    def _repo(self, kind: str, path: str, query: dict[str, list[str]], body: bytes) -> None:
        if path in self.hub.moved:
            return self._send(307, b"", {"Location": f"/api/{kind}/{self.hub.moved[path]}"}, file=False)
        found = self.hub.find(kind, path)
        if found is None:
            return self._error(401, "RepoNotFound", "Repository not found")
        repo, rest = found
        what, _, rest = rest.partition("/")
        revision, _, folder = rest.partition("/")
        files = self._files(repo, unquote(revision))
        if what == "auth-check":
            return self._refused(repo) or self._json({})
        if files is None:
            return self._error(404, "RevisionNotFound", f"Invalid rev id: {unquote(revision)}")
        if what in ("", "revision"):
            return self._json(repo.described(query.get("expand", [])))
        if what == "tree":
            return self._json([_entry(name, data) for name, data in files.items() if name.startswith(unquote(folder))])
        if what == "paths-info":
            asked = parse_qs(body.decode()).get("paths", []) if b"=" in body else json.loads(body)["paths"]
            return self._json([_entry(name, files[name]) for name in asked if name in files])
        return self._error(404, "", "no such page")

    def _file(self, kind: str, id: str, revision: str, name: str) -> None:
        found = self.hub.find(kind, id)
        if found is None:
            return self._error(401, "RepoNotFound", "Repository not found")
        repo, _ = found
        if self._refused(repo):
            return None
        files = self._files(repo, revision)
        if files is None:
            return self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if name not in files:
            return self._error(404, "EntryNotFound", "Entry not found")
        data = files[name]
        headers = {"ETag": f'"{_oid(data)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if span and self.command == "GET":
            start, end = int(span[1]), min(int(span[2] or len(data)), len(data) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
            return self._send(206, data[start : end + 1], headers)
        return self._send(200, data, headers)

    def _files(self, repo: Repo, revision: str) -> dict[str, bytes] | None:
        return repo.files.get(MAIN if revision in ("", COMMIT) else revision, {} if revision in ("", MAIN) else None)

    def _refused(self, repo: Repo) -> bool:
        """Whether a gated repository was asked for without a token, or with one that may not read it."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not repo.gated or token == TOKEN:
            return False
        self._error(403 if token else 401, "GatedRepo", f"Access to {repo.id} is restricted")
        return True

    def _json(self, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})}, file=False)

    def _error(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self._send(status, json.dumps({"error": message}).encode(), headers, file=False)

    def _send(self, status: int, data: bytes, headers: dict[str, str], *, file: bool = True) -> None:
        try:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)
                self.hub.sent_bytes += len(data) if file else 0
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client gave up waiting, as it should


def _entry(name: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "oid": _oid(data), "size": len(data), "path": name}


def _oid(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()
