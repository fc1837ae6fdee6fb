"""A hub on this machine: the part of its HTTP API that fetching a model uses, on real sockets, and the ways in which it fails.

The answers follow huggingface.co: the tree of a commit as JSON, ``resolve`` with ETag and X-Repo-Commit, a redirect to another host for
what LFS keeps, ranges, and the error codes in X-Error-Code.
"""

import hashlib
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Literal
from urllib.parse import urlsplit

from tests.hosts import listening

HUB_ID, REVISION = "mine/forms", "0123456789abcdef0123456789abcdef01234567"
Ending = Literal["closed", "reset", "stalled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request as it came."""

    host: Literal["hub", "storage"]
    method: str
    path: str
    range: str | None
    is_authorized: bool


@dataclass(kw_only=True)
class Hub:
    """What is served, what goes wrong, and what was asked."""

    files: dict[str, bytes]
    lfs: frozenset[str] = frozenset({"model.safetensors"})
    token: str | None = None
    """Who does not send it is answered 401."""
    is_gated: bool = False
    statuses: dict[str, list[int]] = field(default_factory=dict)
    """End of a path -> the answers to its next requests, before it works; the last one stays where it is negative."""
    cuts: list[tuple[int, Ending]] = field(default_factory=list)
    """After how many bytes the next answers from the storage end, and how."""
    sent_instead: dict[str, bytes] = field(default_factory=dict)
    """Contents that are sent under a name, whatever the tree says."""
    listed_bytes: dict[str, int] = field(default_factory=dict)
    """Sizes that the tree lists instead of the true ones."""
    seen: list[Seen] = field(default_factory=list)
    url: str = ""
    storage_url: str = ""

    def tree(self) -> list[dict[str, object]]:
        """The listing of the commit."""
        entries: list[dict[str, object]] = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": "original"}]
        for name, data in self.files.items():
            size = self.listed_bytes.get(name, len(data))
            entry = {"type": "file", "oid": git_blob(data), "size": size, "path": name}
            if name in self.lfs:
                sha256 = hashlib.sha256(data).hexdigest()
                entry |= {"lfs": {"oid": sha256, "size": size, "pointerSize": 134}, "xetHash": sha256[::-1]}
            entries.append(entry)
        return entries

    def ranges(self, name: str) -> list[str | None]:
        """The ranges asked for where the file's bytes are."""
        return [seen.range for seen in self.seen if seen.method == "GET" and seen.path.endswith(f"/{name}") and seen.host == "storage"]

    def asked(self, end: str) -> int:
        """How many requests there were for paths with this end."""
        return sum(seen.path.endswith(end) for seen in self.seen)


def git_blob(data: bytes) -> str:
    """The name that git gives to a file's contents."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub
    host: Literal["hub", "storage"]

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        with suppress(ConnectionError):  # a client that was killed
            self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        authorization = self.headers.get("Authorization")
        self.hub.seen.append(Seen(
            host=self.host, method=self.command, path=path, range=self.headers.get("Range"), is_authorized=authorization is not None
        ))  # fmt: skip
        refusal = self._refusal(path, authorization)
        if refusal is not None:
            self._send(refusal[0], b'{"error": "no"}', {"X-Error-Code": refusal[1]} if refusal[1] else {})
        elif self.host == "storage":
            self._send_bytes(self._contents(path.rsplit("/", 1)[1]))
        elif path == f"/api/models/{HUB_ID}/tree/{REVISION}":
            self._send(200, json.dumps(self.hub.tree()).encode(), {"Content-Type": "application/json"})
        else:
            self._resolve(path.rsplit("/", 1)[1])

    def _refusal(self, path: str, authorization: str | None) -> tuple[int, str] | None:
        for end, statuses in self.hub.statuses.items():
            if path.endswith(end) and statuses:
                return (abs(statuses[0]) if statuses[0] < 0 else statuses.pop(0)), ""
        if self.host == "storage":
            return None
        if HUB_ID not in path:
            return 404, "RepoNotFound"
        if self.hub.token is not None and authorization != f"Bearer {self.hub.token}":
            return 401, "RepoNotFound"
        if self.hub.is_gated:
            return 403, "GatedRepo"
        return None if REVISION in path else (404, "RevisionNotFound")

    def _contents(self, name: str) -> bytes:
        return self.hub.sent_instead.get(name, self.hub.files[name])

    def _resolve(self, name: str) -> None:
        if name not in self.hub.files:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        elif name in self.hub.lfs:
            data = self.hub.files[name]
            self._send(302, b"", {
                "Location": f"{self.hub.storage_url}/{name}", "X-Repo-Commit": REVISION,
                "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Linked-Size": str(len(data)),
            })  # fmt: skip
        else:
            self._send(200, self._contents(name), {"X-Repo-Commit": REVISION, "ETag": f'"{git_blob(self.hub.files[name])}"'})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_bytes(self, data: bytes) -> None:
        """A file of the storage, from where the range begins, cut where that is wanted."""
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if not self.hub.cuts:
            self.wfile.write(data[start:])
            return
        count, ending = self.hub.cuts.pop(0)
        self.wfile.write(data[start : start + count])
        self._end(ending)

    def _end(self, ending: Ending) -> None:
        self.close_connection = True
        self.wfile.flush()
        if ending == "stalled":
            self.server.released.wait(60)  # pyright: ignore[reportAttributeAccessIssue]
        if ending == "reset":
            threading.Event().wait(1)  # what was sent arrives before the reset does
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve the hub, and what LFS keeps as another host of this machine."""
    with listening(_Handler, ("hub", "storage"), hub=hub) as (hub.url, hub.storage_url):
        yield hub
