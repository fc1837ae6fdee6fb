"""From a zip or tar archive to files, none of them outside the folder that they are meant for.

In: an archive whose bytes are all there, an ``Unpacking`` and an empty folder. Out: regular files below that folder, archives inside the
archive unpacked as well; or an InputRefused. A name that leads outside, two members of one name and an archive that would fill the disk are
refused; links and devices are never made.
"""

import gzip
import lzma
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from medvl_lib.errors import InputRefused
from medvl_lib.sources import Unpacking

INSIDE = (".zip", ".tar", ".tar.gz", ".tgz")
ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # how one begins: a plain tar whose last member is a zip ends like one
MOST_NESTED = 2  # PAD-UFES-20 has zip archives in its zip archive, and nobody has more
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError)


class _Member(NamedTuple):
    name: str
    num_bytes: int
    stream: IO[bytes]


def unpack(archive: Path, unpacking: Unpacking, folder: Path, chosen: frozenset[str] | None = None) -> None:
    """Write an archive's members below ``folder``; of members with a patient, those of the chosen ones (None: of all)."""
    try:
        _unpack(archive, unpacking, folder, chosen, set(), MOST_NESTED)
    except DAMAGED as error:
        raise _refused(archive, f"an archive that cannot be read ({type(error).__name__})", "fetch it again; it was removed") from error


def _unpack(archive: Path, unpacking: Unpacking, folder: Path, chosen: frozenset[str] | None, seen: set[str], depth: int) -> None:
    """``seen`` are the places that were written, those of archives inside included, whatever their case."""
    room = shutil.disk_usage(folder).free
    for member in _members(archive):
        target = _target(archive, member.name, unpacking)
        if target is None or not _is_chosen(target.as_posix() if unpacking.is_flat else member.name, unpacking, chosen):
            continue
        room -= member.num_bytes
        if room < 0:
            raise _refused(archive, "more than the disk has room for", "free space, then start again")
        path = folder / unpacking.into / target
        if (place := path.as_posix().casefold()) in seen:
            raise _two_of_one_name(archive, target)
        seen.add(place)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as stream:
                shutil.copyfileobj(member.stream, stream, 1 << 20)
        except (FileExistsError, NotADirectoryError) as error:  # one of them is the folder of the other
            raise _two_of_one_name(archive, target) from error
        if depth and path.name.lower().endswith(INSIDE):
            nested = path.with_name(f"{path.name}.packed")
            path.rename(nested)
            _unpack(nested, Unpacking(), path.parent, None, seen, depth - 1)
            nested.unlink()


def _is_chosen(name: str, unpacking: Unpacking, chosen: frozenset[str] | None) -> bool:
    if not unpacking.member:
        return True
    found = re.match(unpacking.member, name)
    if found is None:
        return False
    patient = found.groupdict().get("patient")
    return patient is None or chosen is None or patient in chosen


def _target(archive: Path, name: str, unpacking: Unpacking) -> PurePosixPath | None:
    """Where a member goes below its folder; None for what a Mac adds. Raises InputRefused for a name that leads outside."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or ":" in path.parts[0] or "\0" in name:
        raise _refused(archive, f"a member {name!r}, which leads outside", "do not unpack it by hand either: ask the publisher")
    if path.parts[0] == "__MACOSX" or path.name == ".DS_Store":
        return None
    return PurePosixPath(path.name) if unpacking.is_flat else path


def _members(archive: Path) -> Iterator[_Member]:
    """The regular files of an archive, whatever its kind."""
    with archive.open("rb") as stream:
        is_zip = stream.read(len(ZIP[0])) in ZIP
    yield from _zip_members(archive) if is_zip else _tar_members(archive)


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            is_regular = (info.external_attr >> 16) & 0o170000 in {0, 0o100000}
            if not info.is_dir() and is_regular:
                with opened.open(info) as stream:
                    yield _Member(info.filename, info.file_size, stream)


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive) as opened:
        for info in opened:
            stream = opened.extractfile(info) if info.isreg() else None
            if stream is not None:
                with stream:
                    yield _Member(info.name, info.size, stream)


def _two_of_one_name(archive: Path, target: PurePosixPath) -> InputRefused:
    return _refused(archive, f"two members that would be {target.as_posix()!r}", "ask the publisher which of them is meant")


def _refused(archive: Path, found: str, do: str) -> InputRefused:
    return InputRefused(found=found, where=archive.name.removesuffix(".packed"), do=do)
