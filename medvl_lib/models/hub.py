"""From a repository on the hub, at its pinned commit, to a directory of files of which every byte was checked. No torch here.

In: a ``ModelSpec`` with a hub id, and the folder below the data root where its downloads are kept. Out: the checkpoint's files, or a
MedVLError that says who has to do what. What the files mean, and how they are loaded, is not known here. Why the files are fetched one
by one, and linked instead of copied, stands in ``docs/decisions/0010-models-from-the-hub.md``.
"""

import os
import shutil
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx2  # what huggingface_hub talks HTTP with: a connection that breaks is an error of this package
from filelock import FileLock, Timeout
from huggingface_hub import HfApi, constants, get_token, hf_hub_url, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, RevisionNotFoundError
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers
from huggingface_hub.utils.sha import git_hash

from medvl_lib.errors import MedVLError, Unreachable
from medvl_lib.files import read_json, sha256_of_file, write_json, writing_below
from medvl_lib.models.spec import LAYOUT_REVISIONS, ModelSpec
from medvl_lib.models.weights import NEEDED, WEIGHTS, shards
from medvl_lib.step import Report, silent

LISTING = "listing.json"  # in the folder of downloads: what the hub lists at the commit, which never changes
SHA256_DIGITS = 64
PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0)  # before a file is asked for again when the hub answered with a passing error
PASSING = {408, 429, 500, 502, 503, 504}
REPORT_SECONDS = 10.0
GB = 1e9
AGAIN = "materialize again: it goes on where it stopped"
WAY_AROUND = "or set [lines.<line>.model] source = 'directory', revision = '' and path to a copy on this machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """A file as the hub lists it."""

    name: str
    num_bytes: int
    checksum: str
    """SHA-256 of its bytes where the hub keeps it in LFS (64 digits), git's blob id otherwise (40)."""


def fetch(spec: ModelSpec, directory: Path, downloads: Path, report: Report = silent) -> None:
    """Put the checkpoint that ``spec`` names into ``directory``, from the downloads, the user's cache of the hub, or the network.

    Nothing is taken unchecked: each file has the hash that the hub lists. Without the network the list is the one remembered in
    ``downloads``; a cache that another tool filled names each file by its hash, so contents are checked as well, but that a file is absent
    is seen only where the cache keeps a list too (newer versions of huggingface_hub write one). Raises MedVLError, and WriteFailed.
    """
    with writing_below(downloads):
        downloads.mkdir(parents=True, exist_ok=True)
        with _alone(downloads, report):
            files = _listing(spec, downloads)
            found = {file.name: _sound_copy(spec, file, downloads) for file in files}
            missing = [file for file in files if found[file.name] is None]
            progress = _Progress(report, missing, downloads)
            _require_room(progress.num_bytes_left, downloads)
            for file in missing:
                found[file.name] = _download(spec, file, downloads, progress)
    for name, path in found.items():
        _place(path, directory / name)


@contextmanager
def _alone(downloads: Path, report: Report) -> Generator[None, None, None]:
    """Hold the downloads of a commit, saying so while another process has them."""
    lock = FileLock(downloads / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report({"waiting_for": str(downloads)})
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def is_here(spec: ModelSpec, downloads: Path) -> bool:
    """Whether every file lies on this machine, by name and size; nothing is hashed, and the network is not asked."""
    if (downloads / LISTING).is_file():
        files = _remembered(downloads)
    else:
        files = _cached(spec)
    sizes = ((file.num_bytes, [downloads / file.name, _in_cache(spec, file.name)]) for file in files)
    return bool(files) and all(any(path is not None and _size(path) == size for path in paths) for size, paths in sizes)


def _listing(spec: ModelSpec, downloads: Path) -> list[HubFile]:
    """What the hub lists: remembered, or asked for; where it does not answer, what the user's cache holds."""
    if (downloads / LISTING).is_file():
        return _remembered(downloads)
    try:
        entries = [entry for entry in HfApi().list_repo_tree(spec.hub_id, revision=spec.revision) if isinstance(entry, RepoFile)]
    except (httpx2.HTTPError, OSError, ValueError, KeyError, TypeError) as error:  # the last three: an answer that is no listing
        if files := _cached(spec):
            return files
        raise _refusal(spec, "the list of files", error) from error
    files = [
        HubFile(name=entry.path, num_bytes=entry.size, checksum=entry.lfs.sha256 if entry.lfs else entry.blob_id)
        for entry in entries if Path(entry.path).name == entry.path and any(fnmatch(entry.path, pattern) for pattern in WEIGHTS)
    ]  # fmt: skip
    if not any(file.name.endswith(".safetensors") for file in files):
        others = [entry.path for entry in entries if entry.path.endswith((".bin", ".pt", ".pth", ".gguf"))]
        raise MedVLError(
            found=f"no *.safetensors ({', '.join(others[:3]) or 'and no other weights'})", where=_where(spec),
            do="name a revision or a repository with safetensors: a pickle runs code when it is opened, and is not loaded",
        )  # fmt: skip
    write_json(downloads / LISTING, [asdict(file) for file in files])
    return files


def _remembered(downloads: Path) -> list[HubFile]:
    return [HubFile(**entry) for entry in read_json(downloads / LISTING)]


def _cached(spec: ModelSpec) -> list[HubFile]:
    """The snapshot in the user's cache, whose links name each file's hash; empty where there is none, or one that is not whole.

    Other tools fetch what they need, so a file that every model has may be absent there. A cache without links (a file system that has
    none) says no hash, and is never taken.
    """
    try:
        snapshot = Path(snapshot_download(
            spec.hub_id, revision=spec.revision, allow_patterns=list(WEIGHTS), local_files_only=True
        ))  # fmt: skip
    except (OSError, ValueError):
        return []
    paths = sorted({path for pattern in WEIGHTS for path in snapshot.glob(pattern)})
    needed = NEEDED[:1] if spec.family in LAYOUT_REVISIONS else NEEDED  # what a publisher's own layout has beside, its converter knows
    lacks = any(not (snapshot / name).is_file() for name in (*needed, *shards(snapshot)))
    if lacks or not any(path.suffix == ".safetensors" for path in paths) or not all(path.is_symlink() for path in paths):
        return []
    return [HubFile(name=path.name, num_bytes=_size(path), checksum=path.readlink().name) for path in paths]


def _in_cache(spec: ModelSpec, name: str) -> Path | None:
    cached = try_to_load_from_cache(spec.hub_id, name, revision=spec.revision)
    return Path(cached).resolve() if isinstance(cached, str) else None


def _sound_copy(spec: ModelSpec, file: HubFile, downloads: Path) -> Path | None:
    """A copy with the right contents on this machine. A damaged download is removed; the user's cache is never written."""
    mine = downloads / file.name
    if _is_sound(mine, file):
        return mine
    mine.unlink(missing_ok=True)
    cached = _in_cache(spec, file.name)
    return cached if cached is not None and _is_sound(cached, file) else None


def _is_sound(path: Path, file: HubFile) -> bool:
    return _size(path) == file.num_bytes and path.is_file() and _checksum(path, file) == file.checksum


def _checksum(path: Path, file: HubFile) -> str:
    return sha256_of_file(path) if len(file.checksum) == SHA256_DIGITS else git_hash(path.read_bytes())


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _part(file: HubFile, downloads: Path) -> Path:
    """What has come of a file so far."""
    return downloads / f"{file.name}.part"


class _Progress:
    """Says now and then how many bytes are there; stands where ``http_get`` expects a progress bar."""

    def __init__(self, report: Report, missing: Sequence[HubFile], downloads: Path) -> None:
        self._report = report
        self._total = sum(file.num_bytes for file in missing)
        self._done = sum(min(_size(_part(file, downloads)), file.num_bytes) for file in missing)
        self._said_at = 0.0

    @property
    def num_bytes_left(self) -> int:
        return self._total - self._done

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def update(self, num_bytes: int) -> None:
        """Take note of bytes that have come, or of some (negative) that were thrown away."""
        self._done += num_bytes
        if time.monotonic() - self._said_at >= REPORT_SECONDS:
            self._said_at = time.monotonic()
            self._report({"fetched_bytes": self._done, "all_bytes": self._total})


def _require_room(num_bytes: int, downloads: Path) -> None:
    free = shutil.disk_usage(downloads).free
    if num_bytes > free:
        raise MedVLError(
            found=f"{num_bytes / GB:,.1f} GB to fetch, {free / GB:,.1f} GB free", where=str(downloads),
            do="free space there, or name another data_root in the settings; nothing was fetched",
        )  # fmt: skip


def _download(spec: ModelSpec, file: HubFile, downloads: Path, progress: _Progress) -> Path:
    """Fetch one file, going on with what came before, and check it; a wrong one is removed, so that the next try fetches it anew."""
    part = _part(file, downloads)
    if _size(part) > file.num_bytes:
        part.unlink()
    try:
        _fill(part, spec, file, progress)
    except (httpx2.HTTPError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's word, not the hub's
        raise _refusal(spec, file.name, error) from error
    found = _checksum(part, file)
    if found != file.checksum:
        part.unlink()
        raise MedVLError(
            found=f"{file.name} came with the hash {found}, and the hub lists {file.checksum}", where=_where(spec),
            do="materialize again: the wrong file was removed; where it comes back the same, ask what stands between this machine and the "
            "hub (HF_ENDPOINT, a proxy)",
        )  # fmt: skip
    return part.replace(downloads / file.name)


def _fill(part: Path, spec: ModelSpec, file: HubFile, progress: _Progress) -> None:
    """Ask for what lacks until all of it is there: at once as long as bytes arrive, after a pause where the hub is busy."""
    url = hf_hub_url(spec.hub_id, file.name, revision=spec.revision)
    pauses = list(PAUSES_SECONDS)
    while True:
        held = _size(part)
        # identity: sizes and ranges count the file's own bytes. A redirect to a host that stores the file drops the token (httpx2).
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        try:
            with part.open("ab") as stream:
                http_get(url, stream, resume_size=held, headers=headers, expected_size=file.num_bytes, tqdm_class=_always(progress))
        except (httpx2.TransportError, HfHubHTTPError) as error:
            if _size(part) > held:
                continue
            if _status(error) not in PASSING or not pauses:
                raise
            time.sleep(pauses.pop(0))
        else:
            return


def _always(progress: _Progress) -> Any:
    """A class of progress bars of which there is only one."""
    return lambda **_: progress


def _place(source: Path, target: Path) -> None:
    """Give a checked file a second name; where the file system has none to give, copy it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _where(spec: ModelSpec) -> str:
    return f"{spec.hub_id} at {spec.revision}"


def _status(error: Exception) -> int | None:
    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def _refusal(spec: ModelSpec, what: str, error: Exception) -> MedVLError:
    """What the hub, or the way to it, said: in words of ours, since theirs may quote a signed address or a token."""
    found, do = _cause(spec, error)
    is_broken = isinstance(error, httpx2.TransportError) and not isinstance(error, httpx2.LocalProtocolError)
    kind = Unreachable if is_broken or _status(error) in PASSING else MedVLError
    return kind(found=f"{what}: {found}", where=_where(spec), do=f"{do}; {WAY_AROUND}")


def _cause(spec: ModelSpec, error: Exception) -> tuple[str, str]:
    """(what happened, the cure)."""
    status, page = _status(error), f"{constants.ENDPOINT}/{spec.hub_id}"
    if isinstance(error, HFValidationError):
        return f"{spec.hub_id!r} is no hub id", "write hub_id as owner/name"
    if isinstance(error, OfflineModeIsEnabled):
        return "not here, and HF_HUB_OFFLINE forbids to fetch it", "unset HF_HUB_OFFLINE"
    if status in {401, 403}:
        reason = "access is restricted" if isinstance(error, GatedRepoError) else "no access"
        sent = "no token was sent" if get_token() is None else "the token that was sent does not open it"
        cure = f"accept the licence on {page}, and set HF_TOKEN in the environment to a token that may read it"
        return f"the hub answered {status}: {reason}, {sent}", f"{cure}; a misspelt hub_id is answered like this too"
    if status == 404:
        lacks = "revision" if isinstance(error, RevisionNotFoundError) else "repository, or no such file in it"
        return f"the hub answered 404: no such {lacks}", f"compare hub_id and revision with {page}"
    if status in PASSING:
        return f"the hub answered {status}, again and again", f"{AGAIN}; {page} says whether the hub is down"
    if status is not None:
        return f"the hub answered {status}", f"open {page}, and mend hub_id and revision"
    return _broken(error)


def _broken(error: Exception) -> tuple[str, str]:
    """A connection that failed, or an answer that is none of the hub's."""
    name = type(error).__name__
    if isinstance(error, httpx2.LocalProtocolError | UnicodeError):
        return f"no request could be made ({name})", "look for a stray character in HF_TOKEN"
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError):
        return f"{constants.ENDPOINT} cannot be reached ({name})", f"check the network, HTTPS_PROXY and HF_ENDPOINT, then {AGAIN}"
    if isinstance(error, httpx2.TransportError):
        return f"the connection broke, and nothing more came ({name})", AGAIN
    return f"an answer that is not the hub's ({name})", f"check HF_ENDPOINT and what stands between this machine and the hub, then {AGAIN}"
