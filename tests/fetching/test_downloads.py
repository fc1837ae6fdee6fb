"""One archive over a line that breaks. If these passed wrongly, half a set could be read as a whole one, or a night's download be lost."""

import io
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from medvl_lib.errors import InputRefused, MedVLError, Unreachable
from medvl_lib.fetching import downloads
from medvl_lib.fetching.downloads import Away
from medvl_lib.sources import Archive
from tests.fetching.conftest import Person

ROOT = Path(__file__).parents[2]
PICTURES = {f"imgs/xmlab{number}/source.jpg": bytes([number]) * 3000 for number in range(1, 5)}
PATH = "/set.zip"


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


ARCHIVE = zipped(PICTURES)


@pytest.fixture
def source(person: Person) -> Archive:
    person.publisher.files[PATH] = ARCHIVE
    return Archive(name="here", url=person.publisher.url + PATH, file="set.zip", page="https://example.org/set")


def test_an_archive_becomes_the_files_that_it_holds_and_is_not_kept(person: Person, source: Archive):
    found = person.fetch(source)
    assert person.files() == PICTURES
    assert (found.num_files, found.num_placed, found.reached) == (4, 4, "")
    assert not list(person.room.rglob("*.zip*"))
    person.fetch(source)
    assert len(person.publisher.seen) == 1  # all of it is there


@pytest.mark.parametrize("cuts", [[5000], [5000, 100, 3000]])
def test_a_connection_that_breaks_is_taken_up_where_it_broke(person: Person, source: Archive, cuts: list[int]):
    person.publisher.cuts = list(cuts)
    person.fetch(source)
    assert person.files() == PICTURES
    sums = [sum(cuts[: place + 1]) for place in range(len(cuts))]
    assert person.publisher.ranges(PATH) == [None, *(f"bytes={held}-" for held in sums)]


def test_what_is_taken_up_is_asked_for_as_what_it_was(person: Person, source: Archive):
    person.publisher.cuts = [5000]
    person.fetch(source)
    assert person.publisher.seen[1].if_range is not None


def test_contents_that_have_changed_since_are_fetched_from_the_beginning(person: Person, source: Archive):
    person.publisher.cuts = [5000, 0, 0, 0, 0]
    with pytest.raises(Unreachable):
        person.fetch(source)
    others = {name: data[::-1] + b"x" for name, data in PICTURES.items()}
    person.publisher.files[PATH], person.publisher.cuts = zipped(others), []
    person.fetch(source)
    assert person.files() == others


def test_a_server_that_knows_no_ranges_is_asked_from_the_beginning(person: Person, source: Archive):
    person.publisher.has_ranges, person.publisher.cuts = False, [5000]
    person.fetch(source)
    assert person.files() == PICTURES


def test_a_server_that_always_cuts_at_one_place_is_not_asked_for_ever(person: Person, source: Archive):
    person.publisher.has_ranges, person.publisher.cuts = False, [5000] * 50
    with pytest.raises(Unreachable, match="the connection broke"):
        person.fetch(source)
    assert len(person.publisher.seen) < 10
    assert person.files() == {}


def test_a_server_that_stays_away_is_left_alone_and_what_came_is_kept(person: Person, source: Archive):
    person.publisher.cuts = [5000] + [0] * 20
    with pytest.raises(Unreachable, match="it goes on where it stopped"):
        person.fetch(source)
    assert person.files() == {}
    person.publisher.cuts = []
    person.fetch(source)
    assert person.files() == PICTURES
    assert person.publisher.ranges(PATH)[-1] == "bytes=5000-"


def test_a_busy_server_is_asked_again_after_the_time_that_it_names(person: Person, source: Archive, monkeypatch: pytest.MonkeyPatch):
    slept: list[float] = []
    monkeypatch.setattr(downloads.time, "sleep", slept.append)
    person.publisher.answers[PATH] = [(503, {"Retry-After": "7"}), (429, {"Retry-After": "Thu, 01 Jan 2099 00:00:00 GMT"})]
    with pytest.raises(Unreachable, match="the server asks to be left alone for"):
        person.fetch(source)
    assert slept == [7.0]
    person.publisher.answers[PATH] = [(503, {})]
    person.fetch(source)
    assert person.files() == PICTURES


@pytest.mark.parametrize(
    ("status", "found"), [(401, "no access, nothing that would open it was sent"), (403, "no access"), (404, "no such file"), (418, "418")]
)
def test_a_refusal_is_told_at_once_with_the_page(person: Person, source: Archive, status: int, found: str):
    person.publisher.answers[PATH] = [(status, {})] * 5
    refused = person.is_refused(source)
    assert found in refused.found
    assert refused.where == "https://example.org/set"
    assert not refused.is_passing
    assert len(person.publisher.seen) == 1


def test_a_circle_of_redirects_is_refused(person: Person, source: Archive):
    person.publisher.answers[PATH] = [(302, {"Location": PATH})] * 20
    assert "TooManyRedirects" in person.is_refused(source).found


def test_without_a_network_nobody_is_there(person: Person, source: Archive):
    with pytest.raises(Away, match="check the network"):
        person.fetch(Archive(name="here", url="http://127.0.0.1:9/set.zip", file="set.zip", page="https://example.org/set"))


@pytest.mark.parametrize("damage", [lambda data: data[:-200], lambda data: data[:2000] + b"\0" * 50 + data[2050:], lambda _: b"<html>"])
def test_a_damaged_archive_is_refused_removed_and_fetched_anew(person: Person, source: Archive, damage):
    person.publisher.files[PATH] = damage(ARCHIVE)
    assert "an archive that cannot be read" in person.is_refused(source).found
    assert person.files() == {}
    person.publisher.files[PATH] = ARCHIVE
    person.fetch(source)
    assert person.files() == PICTURES


def test_time_that_runs_out_places_nothing_and_the_next_call_goes_on(person: Person, source: Archive, monkeypatch: pytest.MonkeyPatch):
    person.publisher.cuts, clock = [5000], iter(range(100))  # every look at the clock takes a second
    monkeypatch.setattr(downloads.time, "monotonic", lambda: float(next(clock)))
    found = person.fetch(source, max_seconds=3)
    assert (found.reached, person.files()) == ("seconds", {})
    monkeypatch.setattr(downloads.time, "monotonic", time.perf_counter)
    assert person.fetch(source).reached == ""
    assert person.files() == PICTURES
    assert person.publisher.ranges(PATH) == [None, "bytes=5000-"]


def test_a_file_of_somebody_elses_is_never_written_over(person: Person, source: Archive):
    mine = person.raw / "imgs/xmlab2/source.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    refused = person.is_refused(source)
    assert "1 other files of the same names, such as imgs/xmlab2/source.jpg" in refused.found
    assert person.files() == {"imgs/xmlab2/source.jpg": b"mine"}
    mine.unlink()
    person.fetch(source)
    assert person.files() == PICTURES
    assert len(person.publisher.seen) == 1  # what was fetched was kept


def test_invented_data_are_not_mixed_with_real_ones(person: Person, source: Archive):
    person.raw.mkdir()
    (person.raw / "README.md").write_text("# Invented data\n")
    with pytest.raises(InputRefused, match="invented data"):
        person.fetch(source)
    assert person.publisher.seen == []


FETCH = """
import sys
from pathlib import Path
from dataclasses import replace
from medvl_lib.datasets import DATASETS
from medvl_lib.fetching import downloads
from medvl_lib.fetching.fetch import fetch
from medvl_lib.fetching.wanted import Limits
from medvl_lib.sources import Acquisition, Archive

source = Archive(name="here", url=sys.argv[1], file="set.zip", page="https://example.org/set")
dataset = replace(DATASETS["slake"], acquisition=Acquisition(sources=(source,), layout=(), terms=""))
fetch(dataset, Path("raw"), Path("fetched"), Limits())
"""


def test_what_a_killed_process_had_fetched_is_not_fetched_again(person: Person, source: Archive):
    person.publisher.cuts = [-5000]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "0"}
    process = subprocess.Popen([sys.executable, "-c", FETCH, source.url], cwd=person.folder, env=environment)
    until = time.monotonic() + 60
    while not any(part.stat().st_size == 5000 for part in person.room.glob("parts/*.part")):
        assert time.monotonic() < until
        time.sleep(0.05)
    with pytest.raises(MedVLError, match="another fetch that is going on"):
        person.fetch(source)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert person.files() == {}
    person.fetch(source)
    assert person.files() == PICTURES
    assert person.publisher.ranges(PATH) == [None, "bytes=5000-"]
