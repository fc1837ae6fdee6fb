"""Durable files. If these passed wrongly, a crash or a full disk could leave half a file under a name that others trust."""

import errno
import hashlib
import threading
from pathlib import Path

import pytest

from medvl_lib.errors import WriteFailed
from medvl_lib.files import CHUNK_BYTES, read_json, sha256_of_file, write_bytes, write_json, write_whole, writing_below
from tests.small_disk import small_disk


def test_a_file_longer_than_a_chunk_has_its_own_hash(tmp_path: Path):
    data = b"a" * CHUNK_BYTES + b"b"
    (tmp_path / "long").write_bytes(data)
    assert sha256_of_file(tmp_path / "long") == hashlib.sha256(data).hexdigest()


def test_a_file_is_written_into_a_new_folder_and_replaces_the_old_one(tmp_path: Path):
    path = tmp_path / "new" / "folder" / "file"
    write_bytes(path, b"old")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert [item.name for item in path.parent.iterdir()] == ["file"]


def test_a_write_that_raises_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path):
    def interrupted(temporary: Path):
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt

    write_bytes(tmp_path / "file", b"old")
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "file", interrupted)
    assert {item.name: item.read_bytes() for item in tmp_path.iterdir()} == {"file": b"old"}


def test_a_full_disk_is_refused_in_three_parts_and_leaves_the_old_file(tmp_path: Path):
    write_bytes(tmp_path / "file", b"old")
    with small_disk(1000), pytest.raises(WriteFailed) as failed:
        write_bytes(tmp_path / "file", b"x" * 5000)
    assert failed.value.found == f"File too large (errno {errno.EFBIG})"
    assert failed.value.where == str(tmp_path)
    assert "free space" in failed.value.do
    assert {item.name: item.read_bytes() for item in tmp_path.iterdir()} == {"file": b"old"}


def test_a_missing_file_elsewhere_is_not_blamed_on_the_disk(tmp_path: Path):
    with pytest.raises(FileNotFoundError), writing_below(tmp_path / "written"):
        (tmp_path / "read").read_bytes()
    with pytest.raises(WriteFailed), writing_below(tmp_path / "written"):
        (tmp_path / "written" / "file").write_bytes(b"")


def test_threads_that_write_one_file_do_not_disturb_each_other(tmp_path: Path):
    both, failures = threading.Barrier(2), []

    def write(data: bytes):
        def slowly(temporary: Path):
            temporary.write_bytes(data)
            both.wait(5)

        try:
            write_whole(tmp_path / "file", slowly)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(data,)) for data in (b"one", b"two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert (tmp_path / "file").read_bytes() in {b"one", b"two"}
    assert len(list(tmp_path.iterdir())) == 1


def test_json_is_sorted_readable_and_comes_back(tmp_path: Path):
    write_json(tmp_path / "a.json", {"b": [1, None, "µ"], "a": {"x": 0.5}})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == (
        '{\n "a": {\n  "x": 0.5\n },\n "b": [\n  1,\n  null,\n  "µ"\n ]\n}\n'
    )  # fmt: skip
    assert read_json(tmp_path / "a.json") == {"b": [1, None, "µ"], "a": {"x": 0.5}}
