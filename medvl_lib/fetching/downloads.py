"""One file over HTTP, whatever the connection does: taken up where it broke, begun again where it changed, and checked before it counts.

In: what is wanted, of whom, and how much may come. Out: a file with the right contents under a temporary name, or an error that says who
does what. Datasets and checkpoints come this way alike; who wants the file, and where it goes then, is not known here. It waits where a
server asks for it, and gives up where nothing comes. An error quotes names of ours alone: an address may be signed, and a server's words
may repeat what it was sent.
"""

import datetime as dt
import email.utils
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, NoReturn

import httpx2
from huggingface_hub.utils.sha import git_hash

from medvl_lib.errors import MedVLError, Unreachable
from medvl_lib.files import sha256_of_file, size_of
from medvl_lib.progress import Report
from medvl_lib.sources import Unpacking

PASSING = {408, 429, 500, 502, 503, 504}
PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0)  # before a file is asked for again when nothing came
LONGEST_WAIT_SECONDS = 300.0  # a server that asks for more is come back to by a person
TIMEOUT_SECONDS = 30.0
REPORT_SECONDS = 10.0
SHA256_DIGITS = 64
GB = 1e9
AGAIN = "start it again: it goes on where it stopped"


class LimitReached(Exception):
    """As much came as may come: ``bytes`` or ``seconds`` says which limit was reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Who is asked for a file: what is sent along, and what a person does who is refused."""

    page: str
    cure: str
    authorization: str = field(default="", repr=False)
    """Sent to this host alone, and shown nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A file that is to come."""

    host: Host
    url: str
    source: str
    """Name of the source that it is a part of."""
    path: str
    """Where it goes below the raw folder; of an archive, what it is called."""
    unit: str = ""
    """The patient to whom it belongs: placed whole. Empty: everybody's, without which nothing is placed."""
    study: str = ""
    """The study of that patient, where the publisher's paths say it."""
    num_bytes: int | None = None
    """None where the publisher does not say it."""
    checksum: str = ""
    """SHA-256 (64 digits) or git's blob id (40) as the publisher states it; empty where none is stated."""
    unpacking: Unpacking | None = None


class Watch:
    """Counts what comes, says so now and then, and stops it where a limit is reached."""

    def __init__(self, report: Report, *, most_bytes: int | None = None, most_seconds: float | None = None, already: int = 0) -> None:
        self._report = report
        self._most_bytes = most_bytes
        self._began = time.monotonic()
        self._most_seconds = most_seconds
        self._said_at = 0.0
        self.num_bytes = already
        self.all_bytes: int | None = None

    def require_room(self) -> None:
        """Raise LimitReached where nothing more may come."""
        if self._most_seconds is not None and time.monotonic() - self._began >= self._most_seconds:
            raise LimitReached("seconds")
        if self._most_bytes is not None and self.num_bytes >= self._most_bytes:
            raise LimitReached("bytes")

    def count(self, num_bytes: int) -> None:
        """Take note of bytes that have come, or of some (negative) that were thrown away."""
        self.num_bytes += num_bytes
        if time.monotonic() - self._said_at >= REPORT_SECONDS:
            self._said_at = time.monotonic()
            whole = {} if self.all_bytes is None else {"all_bytes": self.all_bytes}
            self._report({"fetched_bytes": self.num_bytes, **whole, "seconds": round(time.monotonic() - self._began)})


def client(timeout_seconds: float = TIMEOUT_SECONDS) -> httpx2.Client:
    """The client that asks: redirects are followed, and what opens one host is sent to no other (httpx2)."""
    headers = {"Accept-Encoding": "identity", "User-Agent": "medvl"}  # identity: sizes and ranges count the file's own bytes
    return httpx2.Client(follow_redirects=True, max_redirects=5, timeout=timeout_seconds, headers=headers)


def require_disk(num_bytes: int, folder: Path) -> None:
    """Raise MedVLError where ``folder`` has no room for what is to come."""
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise MedVLError(
            found=f"{num_bytes / GB:,.1f} GB to fetch, {free / GB:,.1f} GB free", where=str(folder),
            do="free space there, or name another data_root in the settings; nothing was fetched",
        )  # fmt: skip


def download(asker: httpx2.Client, wanted: Wanted, part: Path, watch: Watch) -> None:
    """Fill ``part``, going on with what came before, and check it; a wrong one is removed, so that the next try fetches it anew."""
    part.parent.mkdir(parents=True, exist_ok=True)
    if wanted.num_bytes is not None and size_of(part) > wanted.num_bytes:
        part.unlink()
    if wanted.num_bytes is None or not part.is_file() or size_of(part) < wanted.num_bytes:
        _fill(asker, wanted, part, watch)
    found = checksum(part, wanted.checksum)
    if (wanted.checksum and found != wanted.checksum) or (wanted.num_bytes is not None and size_of(part) != wanted.num_bytes):
        watch.count(-size_of(part))
        size = size_of(part)
        _forget(part)
        raise MedVLError(
            found=f"{wanted.path} came with {size} bytes and the hash {found}, and {_stated(wanted)} is stated", where=wanted.host.page,
            do=f"{AGAIN}, and the wrong file was removed; where it comes back the same, ask what stands between this machine and the "
            "publisher (a proxy, a page to log in)",
        )  # fmt: skip
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    _mark(part).unlink(missing_ok=True)


def checksum(path: Path, stated: str) -> str:
    """The hash of a file, of the kind that is stated; SHA-256 where none is."""
    return sha256_of_file(path) if len(stated) in {0, SHA256_DIGITS} else git_hash(path.read_bytes())


def _stated(wanted: Wanted) -> str:
    return f"{'' if wanted.num_bytes is None else f'{wanted.num_bytes} bytes, '}{wanted.checksum or 'no hash'}"


def _mark(part: Path) -> Path:
    """What the server called the contents (ETag) of which a part is here."""
    return part.with_name(f"{part.name}.etag")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _mark(part).unlink(missing_ok=True)


class _Broken(NamedTuple):
    """Why an attempt did not bring all of it."""

    wait_seconds: float
    """How long the server asks to be left alone."""
    error: Exception | None


def _fill(asker: httpx2.Client, wanted: Wanted, part: Path, watch: Watch) -> None:
    """Ask for the rest until all of it is there: at once as long as more has come than ever before, after a pause where nothing has."""
    pauses = iter(PAUSES_SECONDS)
    most = size_of(part)
    while True:
        watch.require_room()
        broken = _attempt(asker, wanted, part, watch)
        if broken is None:
            return
        if size_of(part) > most:  # than ever before: a server that cuts each answer at one place is not asked for ever
            most = size_of(part)
            continue
        _wait(wanted, broken, pauses)


def _attempt(asker: httpx2.Client, wanted: Wanted, part: Path, watch: Watch) -> _Broken | None:
    """Ask once; None where all of it is there, as far as the server says."""
    try:
        with asker.stream("GET", wanted.url, headers=_headers(wanted, part)) as answer:
            if answer.status_code == 416 and answer.headers.get("Content-Range") == f"bytes */{size_of(part)}":
                return None
            if _takes(answer, part, watch):
                _write(answer, part, watch)
                return None
            _require_passing(wanted, answer)
            return _Broken(_retry_after(answer), None)
    except (httpx2.LocalProtocolError, httpx2.UnsupportedProtocol, UnicodeError) as odd:
        _refuse(wanted, f"no request could be made ({type(odd).__name__})", f"look for a stray character; {wanted.host.cure}")
    except httpx2.TransportError as error:
        return _Broken(0.0, error)
    except (httpx2.TooManyRedirects, httpx2.InvalidURL, httpx2.DecodingError) as odd:
        _refuse(wanted, f"an answer that is not the publisher's ({type(odd).__name__})", f"open {wanted.host.page}; {wanted.host.cure}")


def _wait(wanted: Wanted, broken: _Broken, pauses: Iterator[float]) -> None:
    """Sleep before the next try; raise where there is none left."""
    pause = next(pauses, None)
    if broken.wait_seconds > LONGEST_WAIT_SECONDS:
        _unreachable(wanted, f"the server asks to be left alone for {broken.wait_seconds:.0f} s", None)
    if pause is None:
        name = type(broken.error).__name__
        found = "the server is busy, again and again" if broken.error is None else f"the connection broke, and nothing more came ({name})"
        _unreachable(wanted, found, broken.error)
    time.sleep(max(pause, broken.wait_seconds))


def _headers(wanted: Wanted, part: Path) -> Mapping[str, str]:
    """A range from where the part ends, of the contents that it is a part of."""
    headers = {"Authorization": wanted.host.authorization} if wanted.host.authorization else {}
    if size_of(part):
        headers["Range"] = f"bytes={size_of(part)}-"
        if _mark(part).is_file():
            headers["If-Range"] = _mark(part).read_text(encoding="utf-8")
    return headers


def _takes(answer: httpx2.Response, part: Path, watch: Watch) -> bool:
    """Whether an answer's bytes belong at the end of the part; where they do not, the part is begun again."""
    held = size_of(part)
    if answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {held}-"):
        return True
    if answer.status_code in {200, 206, 416} and held:  # a server without ranges, or of contents that have changed since
        watch.count(-held)
        _forget(part)
    return answer.status_code == 200


def _write(answer: httpx2.Response, part: Path, watch: Watch) -> None:
    etag = answer.headers.get("ETag", "")
    if etag.startswith('"') and not size_of(part):  # a weak one does not promise the same bytes
        _mark(part).write_text(etag, encoding="utf-8")
    with part.open("ab") as stream:
        for chunk in answer.iter_bytes():
            stream.write(chunk)
            watch.count(len(chunk))
            watch.require_room()


def _retry_after(answer: httpx2.Response) -> float:
    """For how many seconds a server asks to be left alone: a number, or a date."""
    said = answer.headers.get("Retry-After", "")
    if said.isdigit():
        return float(said)
    try:
        return max((email.utils.parsedate_to_datetime(said) - dt.datetime.now(dt.UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0


def _require_passing(wanted: Wanted, answer: httpx2.Response) -> None:
    """Refuse an answer that will be the same the next time."""
    status = answer.status_code
    if status in PASSING or status in {200, 206, 416}:
        return
    if status in {401, 403}:
        sent = "what was sent does not open it" if wanted.host.authorization else "nothing that would open it was sent"
        _refuse(wanted, f"the server answered {status}: no access, {sent}", wanted.host.cure)
    if status in {404, 410}:
        _refuse(wanted, f"the server answered {status}: no such file", f"compare with {wanted.host.page}: it may have moved")
    _refuse(wanted, f"the server answered {status}", f"open {wanted.host.page}; {wanted.host.cure}")


def _refuse(wanted: Wanted, found: str, do: str) -> NoReturn:
    """Raise what a person has to mend."""
    raise MedVLError(found=f"{wanted.path}: {found}", where=wanted.host.page, do=do) from None


def _unreachable(wanted: Wanted, found: str, error: Exception | None) -> NoReturn:
    is_away = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError)
    do = f"check the network and HTTPS_PROXY, then {AGAIN}" if is_away else AGAIN
    raise (Away if is_away else Unreachable)(found=f"{wanted.path}: {found}", where=wanted.host.page, do=do) from None


class Away(Unreachable):
    """Nobody is there to be asked: no network, most likely."""
