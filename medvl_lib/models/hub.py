"""From a repository on the hub, at its pinned commit, to a directory of files of which every byte was checked. No torch here.

In: a ``ModelSpec`` with a hub id, and the folder below the data root where its downloads are kept. Out: the checkpoint's files, or a
MedVLError that says who has to do what. What the files mean, and how they are loaded, is not known here. How a file comes over a connection
that breaks is ``fetching.downloads``'s, for datasets as well. Why the files are fetched one by one, and linked instead of copied, stands in
``docs/decisions/0010-models-from-the-hub.md``.
"""

import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path

from filelock import FileLock, Timeout
from huggingface_hub import constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import OfflineModeIsEnabled

from medvl_lib.errors import MedVLError
from medvl_lib.fetching import hub
from medvl_lib.fetching.downloads import Wanted, Watch, checksum, client, download, require_disk
from medvl_lib.fetching.hub import HubFile, Repository
from medvl_lib.files import read_json, size_of, write_json, writing_below
from medvl_lib.models.spec import LAYOUT_REVISIONS, ModelSpec
from medvl_lib.models.weights import NEEDED, WEIGHTS, shards
from medvl_lib.progress import Report, silent

LISTING = "listing.json"  # in the folder of downloads: what the hub lists at the commit, which never changes
WAY_AROUND = "or set [lines.<line>.model] source = 'directory', revision = '' and path to a copy on this machine"


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
            if missing:
                _download(spec, missing, downloads, report)
    for name, path in found.items():
        _place(downloads / name if path is None else path, directory / name)


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
    return bool(files) and all(any(path is not None and size_of(path) == size for path in paths) for size, paths in sizes)


# -- what there is -----------------------------------------------------------------------------------------------------
def _repository(spec: ModelSpec) -> Repository:
    return Repository(kind="model", name=spec.hub_id, page=f"{constants.ENDPOINT}/{spec.hub_id}")


def _listing(spec: ModelSpec, downloads: Path) -> list[HubFile]:
    """What the hub lists: remembered, or asked for; where it does not answer, what the user's cache holds."""
    if (downloads / LISTING).is_file():
        return _remembered(downloads)
    try:
        entries = hub.files_at(_repository(spec), spec.revision, is_recursive=False)
    except MedVLError as error:
        if files := _cached(spec):
            return files
        raise _of(spec, error) from None
    files = [file for file in entries if any(fnmatch(file.name, pattern) for pattern in WEIGHTS)]
    if not any(file.name.endswith(".safetensors") for file in files):
        others = [file.name for file in entries if file.name.endswith((".bin", ".pt", ".pth", ".gguf"))]
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
    return [HubFile(name=path.name, num_bytes=size_of(path), checksum=path.readlink().name) for path in paths]


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
    return path.is_file() and size_of(path) == file.num_bytes and checksum(path, file.checksum) == file.checksum


# -- what lacks --------------------------------------------------------------------------------------------------------
def _download(spec: ModelSpec, missing: Sequence[HubFile], downloads: Path, report: Report) -> None:
    """Bring files into the downloads, each under its own name once it was checked; a later call goes on where this one ended."""
    repository, parts = _repository(spec), {file.name: downloads / f"{file.name}.part" for file in missing}
    if constants.HF_HUB_OFFLINE:
        raise _of(spec, hub.refusal(repository, missing[0].name, OfflineModeIsEnabled()))
    here = sum(min(size_of(parts[file.name]), file.num_bytes) for file in missing)
    watch = Watch(report, already=here)
    watch.all_bytes = sum(file.num_bytes for file in missing)
    require_disk(watch.all_bytes - here, downloads)
    host = hub.host(repository)
    with client(timeout_seconds=constants.HF_HUB_DOWNLOAD_TIMEOUT) as asker:
        for file in missing:
            wanted = Wanted(
                host=host, url=hub.url(repository, file.name, spec.revision), source=spec.hub_id, path=file.name,
                num_bytes=file.num_bytes, checksum=file.checksum,
            )  # fmt: skip
            try:
                download(asker, wanted, parts[file.name], watch)
            except MedVLError as error:
                raise _of(spec, error) from None
            parts[file.name].replace(downloads / file.name)


def _place(source: Path, target: Path) -> None:
    """Give a checked file a second name; where the file system has none to give, copy it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _where(spec: ModelSpec) -> str:
    return f"{spec.hub_id} at {spec.revision}"


def _of(spec: ModelSpec, error: MedVLError) -> MedVLError:
    """A refusal as one of this checkpoint's, with the way around the hub."""
    return type(error)(found=error.found, where=_where(spec), do=f"{error.do}; {WAY_AROUND}")
