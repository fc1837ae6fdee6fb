"""A publisher on this machine: files over HTTP on real sockets, and the ways in which servers fail, refuse and lie.

One host stands for the publisher, the other for the storage that it redirects to. The part of the hub's API that a dataset repository uses
is laid over it by ``hub_pages``.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Literal
from urllib.parse import urlsplit

from tests.hosts import listening
from tests.hub_server import git_blob

COMMIT = "fedcba9876543210fedcba9876543210fedcba98"
Answer = tuple[int, Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request as it came."""

    host: Literal["publisher", "storage"]
    path: str
    range: str | None
    if_range: str | None
    authorization: str | None


@dataclass(kw_only=True)
class Publisher:
    """What is served, what goes wrong, and what was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    """Path with its slash -> contents."""
    opens: str | None = None
    """The Authorization header without which the publisher answers ``refusal``."""
    refusal: Answer = (401, {})
    has_ranges: bool = True
    etags: dict[str, str] = field(default_factory=dict)
    """Path -> ETag; without an entry the hash of the contents."""
    redirected: set[str] = field(default_factory=set)
    """Paths whose bytes come from the storage."""
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    """Path -> answers to its next requests, before it works."""
    cuts: list[int] = field(default_factory=list)
    """After how many bytes the next answers with a body end; a negative one waits there."""
    login: bytes | None = None
    """A page that is sent, with 200, instead of whatever is asked for."""
    seen: list[Seen] = field(default_factory=list)
    url: str = ""
    storage_url: str = ""

    def ranges(self, path: str) -> list[str | None]:
        """The ranges asked for where the file's bytes are."""
        return [seen.range for seen in self.seen if seen.path == path and (seen.host == "storage") == (path in self.redirected)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    publisher: Publisher
    host: Literal["publisher", "storage"]

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""

    def do_GET(self) -> None:
        with suppress(ConnectionError):  # a client that was killed
            self._answer()

    def _answer(self) -> None:
        publisher, path = self.publisher, urlsplit(self.path).path
        headers = self.headers
        publisher.seen.append(Seen(
            host=self.host, path=path, range=headers.get("Range"), if_range=headers.get("If-Range"),
            authorization=headers.get("Authorization"),
        ))  # fmt: skip
        if publisher.answers.get(path):
            self._send(*publisher.answers[path].pop(0))
        elif self.host == "publisher" and publisher.opens is not None and headers.get("Authorization") != publisher.opens:
            self._send(*publisher.refusal, publisher.login or b"")
        elif path not in publisher.files:
            self._send(404, {"X-Error-Code": "EntryNotFound"})
        elif self.host == "publisher" and path in publisher.redirected:
            self._send(302, {"Location": f"{publisher.storage_url}{path}"})
        else:
            self._send_file(path, publisher.files[path])

    def _send(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _send_file(self, path: str, data: bytes) -> None:
        publisher, asked = self.publisher, self.headers.get("Range")
        etag = publisher.etags.get(path, f'"{hashlib.sha256(data).hexdigest()}"')
        is_same = self.headers.get("If-Range") in {None, etag}
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and publisher.has_ranges and is_same else 0
        if start and start >= len(data):
            self._send(416, {"Content-Range": f"bytes */{len(data)}"})
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if not publisher.cuts:
            self.wfile.write(data[start:])
            return
        count = publisher.cuts.pop(0)
        self.wfile.write(data[start : start + abs(count)])
        self.close_connection = True
        self.wfile.flush()
        if count < 0:
            self.server.released.wait(60)  # pyright: ignore[reportAttributeAccessIssue]


def hub_pages(repository: str, files: Mapping[str, bytes], lfs: frozenset[str]) -> dict[str, bytes]:
    """What the hub answers of a dataset repository with these files at ``COMMIT``: its commits, its tree, and the files."""
    tree: list[dict[str, object]] = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": "data"}]
    for name, data in files.items():
        entry = {"type": "file", "oid": git_blob(data), "size": len(data), "path": name}
        if name in lfs:
            entry |= {"lfs": {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}}
        tree.append(entry)
    commits = [
        {"id": commit, "title": title, "message": "", "date": "2026-01-01T00:00:00.000Z", "authors": []}
        for commit, title in ((COMMIT, "newest"), ("0123456789" * 4, "first"))
    ]
    return {
        f"/api/datasets/{repository}/commits/main": json.dumps(commits).encode(),
        f"/api/datasets/{repository}/tree/{COMMIT}": json.dumps(tree).encode(),
        **{f"/datasets/{repository}/resolve/{COMMIT}/{name}": data for name, data in files.items()},
    }


@contextmanager
def serving(publisher: Publisher) -> Iterator[Publisher]:
    """Serve the publisher, and its storage as another host of this machine."""
    with listening(_Handler, ("publisher", "storage"), publisher=publisher) as (publisher.url, publisher.storage_url):
        yield publisher
