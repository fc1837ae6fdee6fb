"""Raw files behind a URL, and files that are sent to one. If these passed wrongly, a line would be trained on half an upload, on a file
that was damaged on its way, or on one that its publisher has taken back.
"""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from medvl_lib import elsewhere
from medvl_lib.configured import dataset_runs
from medvl_lib.elsewhere import Listed, mirror, send
from medvl_lib.errors import InputMissing, MedVLError, Unreachable, WriteFailed
from medvl_lib.provenance import judge
from medvl_lib.route.data import dataset_steps
from medvl_lib.settings import read_settings
from medvl_lib.step import reuse_step, run_step
from medvl_lib.workspace import Workspace
from tests import demo_runs
from tests.test_two_machines import answers, free_port


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "place"
    (folder / "part").mkdir(parents=True)
    (folder / "records.json").write_bytes(b"[1]")
    (folder / "part" / "page.png").write_bytes(b"\x89PNG")
    return folder


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_mirror_is_what_the_place_lists_and_brings_only_what_differs(place: Path, tmp_path: Path):
    url, here = f"file://{place}", tmp_path / "mirrors" / "notes"
    assert mirror(url, here) == 2
    assert _files(here) == _files(place)
    assert mirror(url, here) == 0
    (here / "records.json").write_bytes(b"[3]")  # touched by hand, of the same size
    assert mirror(url, here) == 1
    shutil.rmtree(place / "part")
    (place / "records.json").write_bytes(b"[1, 2]")
    assert mirror(url, here) == 1
    assert _files(here) == _files(place) == {"records.json": b"[1, 2]"}


def test_what_comes_must_be_what_is_listed_and_the_old_copy_stays(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    url, here = f"file://{place}", tmp_path / "mirrors" / "notes"
    shutil.rmtree(place / "part")
    mirror(url, here)
    (place / "records.json").write_bytes(b"[7]")
    numbers = count()
    for size, mark in ((3, lambda: f"{next(numbers):032x}"), (4, lambda: "a time")):
        monkeypatch.setattr(elsewhere, "_listed", lambda facts, size=size, mark=mark: Listed(num_bytes=size, mark=mark()))
        with pytest.raises(MedVLError, match="came, and .* are listed"):
            mirror(url, here)
        assert _files(here)["records.json"] == b"[1]"


def test_an_etag_of_an_encrypted_object_is_no_hash_and_has_only_to_stay(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.rmtree(place / "part")
    monkeypatch.setattr(elsewhere, "_listed", lambda facts: Listed(num_bytes=3, mark="0" * 32))
    assert mirror(f"file://{place}", tmp_path / "mirror") == 1
    assert mirror(f"file://{place}", tmp_path / "mirror") == 0
    assert _files(tmp_path / "mirror") == {"records.json": b"[1]"}


def test_an_error_of_an_s3_client_is_of_the_place_and_a_full_disk_is_not(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from fsspec.implementations.local import LocalFileSystem

    class NoCredentialsError(Exception):
        __module__ = "botocore.exceptions"

    def refuse(*_: object, **__: object) -> None:
        raise NoCredentialsError("Unable to locate credentials")

    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for method in ("find", "open"):
        with monkeypatch.context() as broken:
            broken.setattr(LocalFileSystem, method, refuse)
            with pytest.raises(Unreachable, match="NoCredentialsError: Unable to locate"):
                mirror(f"file://{place}", tmp_path / "mirror")
    monkeypatch.setattr(os, "fsync", fill)
    with pytest.raises(WriteFailed, match="No space left"):
        mirror(f"file://{place}", tmp_path / "mirror")


def test_a_place_that_is_empty_or_unknown_is_named(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputMissing, match="no files"):
        mirror(f"file://{tmp_path}/empty", tmp_path / "mirror")
    with pytest.raises(MedVLError, match="Protocol not known"):
        mirror("nowhere://bucket", tmp_path / "mirror")


def test_a_file_that_is_sent_takes_the_place_of_the_old_one(place: Path, tmp_path: Path):
    (tmp_path / "benchmark.duckdb").write_bytes(b"new")
    (place / "benchmark.duckdb").write_bytes(b"old")
    assert send(tmp_path / "benchmark.duckdb", f"file://{place}") == f"file://{place}/benchmark.duckdb"
    assert _files(place)["benchmark.duckdb"] == b"new"
    assert not list(place.glob("*.part"))


def _read_through(settings: Path, url: str, raw: Path) -> None:
    """A dataset whose raw files lie behind a URL becomes validated pairs; the same listing reuses them, another one does not."""
    settings.write_text(settings.read_text().replace("[datasets.clinical_documents]", f'[datasets.clinical_documents]\nraw_url = "{url}"'))
    [run] = dataset_runs(read_settings(settings))
    workspace = Workspace(root=settings.parent / "data")
    for step in dataset_steps(run):
        judge(workspace, written := run_step(workspace, step), step.rules)
    assert written.facts["num_pairs"]
    assert _files(workspace.mirror("clinical_documents")) == _files(raw)
    assert reuse_step(workspace, dataset_steps(run)[0]) is not None


def test_a_dataset_behind_a_url_is_read_like_any_other(tmp_path: Path):
    settings = demo_runs.project(tmp_path)
    raw = tmp_path / "data" / "raw" / "clinical_documents"
    raw.rename(tmp_path / "bucket")
    _read_through(settings, f"file://{tmp_path}/bucket", tmp_path / "bucket")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a server on this machine that speaks S3."""
    pytest.importorskip("moto", reason="no local S3 server: pip install 'moto[server]'")
    pytest.importorskip("s3fs", reason="s3:// is an optional extra: pip install -e '.[s3]'")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    demo_runs.wait_for(lambda: answers(port))
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("hospital")
    yield "s3://hospital"
    server.terminate()
    server.wait(30)


@pytest.mark.slow
def test_a_bucket_is_read_mirrored_and_written(bucket: str, tmp_path: Path):
    import s3fs

    settings = demo_runs.project(tmp_path)
    raw = tmp_path / "data" / "raw" / "clinical_documents"
    raw.rename(tmp_path / "theirs")
    s3fs.S3FileSystem().put(f"{tmp_path}/theirs/", "hospital/raw/", recursive=True)
    _read_through(settings, f"{bucket}/raw", tmp_path / "theirs")

    (tmp_path / "benchmark.duckdb").write_bytes(os.urandom(6 << 20))
    assert send(tmp_path / "benchmark.duckdb", f"{bucket}/published") == f"{bucket}/published/benchmark.duckdb"
    assert mirror(f"{bucket}/published", tmp_path / "back") == 1
    assert _files(tmp_path / "back")["benchmark.duckdb"] == (tmp_path / "benchmark.duckdb").read_bytes()
    with pytest.raises(InputMissing, match="no files"):
        mirror(f"{bucket}/nothing", tmp_path / "nothing")
    with pytest.raises((Unreachable, InputMissing)):
        mirror("s3://no-such-bucket/raw", tmp_path / "nothing")
