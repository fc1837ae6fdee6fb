"""Archives of strangers. If these passed wrongly, an archive could write over a person's files, or a broken one look whole."""

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from medvl_lib.errors import InputRefused
from medvl_lib.fetching.unpacking import unpack
from medvl_lib.sources import Unpacking
from tests.fetching.test_downloads import zipped

HOSTILE = ["../evil.txt", "/etc/evil.txt", "imgs/../../evil.txt", "C:\\evil.txt", "..\\evil.txt"]


def unpacked(folder: Path, data: bytes, unpacking: Unpacking = Unpacking(), chosen: frozenset[str] | None = None) -> list[str]:  # noqa: B008
    (folder / "set.zip").write_bytes(data)
    (folder / "out").mkdir()
    unpack(folder / "set.zip", unpacking, folder / "out", chosen)
    return sorted(path.relative_to(folder / "out").as_posix() for path in folder.joinpath("out").rglob("*") if path.is_file())


def tarred(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return stream.getvalue()


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("packed", [zipped, tarred])
def test_a_member_that_leads_outside_is_refused_and_nothing_is_written_there(tmp_path: Path, name: str, packed):
    with pytest.raises(InputRefused, match="which leads outside"):
        unpacked(tmp_path, packed({name: b"evil"}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "set.zip"]
    assert list((tmp_path / "out").iterdir()) == []


def test_links_are_never_made(tmp_path: Path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc")
        archive.writestr("a.txt", b"a")
    assert unpacked(tmp_path, stream.getvalue()) == ["a.txt"]
    (tmp_path / "tar").mkdir()
    assert unpacked(tmp_path / "tar", tarred({"a.txt": b"a"}, links={"link": "/etc"})) == ["a.txt"]
    with pytest.raises(FileExistsError):
        (tmp_path / "out").mkdir()


def test_folders_are_kept_or_dropped_as_the_reader_wants_them(tmp_path: Path):
    archive = zipped({"a/1.jpg": b"1", "b/2.jpg": b"2", "__MACOSX/a/._1.jpg": b"", "a/.DS_Store": b""})
    assert unpacked(tmp_path, archive, Unpacking(into="images", is_flat=True)) == ["images/1.jpg", "images/2.jpg"]


@pytest.mark.parametrize("names", [("a/1.jpg", "b/1.jpg"), ("a/1.jpg", "b/1.JPG")])
def test_two_members_that_would_be_one_file_are_refused(tmp_path: Path, names: tuple[str, str]):
    with pytest.raises(InputRefused, match="two members that would be"):
        unpacked(tmp_path, zipped(dict.fromkeys(names, b"")), Unpacking(is_flat=True))


def test_archives_inside_an_archive_are_unpacked_where_they_lie(tmp_path: Path):
    inner = zipped({"imgs_part_1/PAT_1.png": b"1"})
    assert unpacked(tmp_path, zipped({"images/imgs_part_1.zip": inner, "metadata.csv": b"x"})) == [
        "images/imgs_part_1/PAT_1.png",
        "metadata.csv",
    ]


def test_one_name_outside_and_inside_an_archive_of_an_archive_is_refused(tmp_path: Path):
    inner = zipped({"README.md": b"inside"})
    with pytest.raises(InputRefused, match=r"two members that would be 'README.md'"):
        unpacked(tmp_path, zipped({"README.md": b"outside", "part.zip": inner}))
    assert not list(tmp_path.glob("out/part.zip"))


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("a", "a/b/c")])
def test_a_member_that_is_the_folder_of_another_is_refused(tmp_path: Path, names: tuple[str, str]):
    with pytest.raises(InputRefused, match="two members that would be"):
        unpacked(tmp_path, zipped(dict.fromkeys(names, b"")))


def test_a_tar_whose_last_member_is_a_zip_is_a_tar(tmp_path: Path):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in {"metadata.csv": b"x", "part.zip": zipped({"1.png": b"1"})}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    assert zipfile.is_zipfile(io.BytesIO(stream.getvalue()))
    assert unpacked(tmp_path, stream.getvalue()) == ["1.png", "metadata.csv"]


def test_members_of_patients_who_were_not_chosen_are_left_out(tmp_path: Path):
    archive = zipped({f"files/p1{n}/p1000000{n}/s5000000{n}.txt": b"x" for n in range(3)} | {"index.html": b""})
    only = Unpacking(member=r"files/p\d\d/p(?P<patient>\d{8})/s\d{8}\.txt")
    assert unpacked(tmp_path, archive, only, frozenset(["10000001"])) == ["files/p11/p10000001/s50000001.txt"]


def test_more_than_the_disk_has_room_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("medvl_lib.fetching.unpacking.shutil.disk_usage", lambda _: type("Usage", (), {"free": 100})())
    with pytest.raises(InputRefused, match="more than the disk has room for"):
        unpacked(tmp_path, zipped({"a": b"x" * 99, "b": b"x" * 2}))


@pytest.mark.parametrize("packed", [zipped, tarred])
def test_a_member_whose_bytes_are_wrong_is_refused(tmp_path: Path, packed):
    data = bytearray(packed({"a.bin": bytes(range(256)) * 20}))
    data[200:230] = bytes(30)
    with pytest.raises(InputRefused, match="an archive that cannot be read"):
        unpacked(tmp_path, bytes(data))
