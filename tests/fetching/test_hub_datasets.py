"""Datasets of the hub. If these passed wrongly, pairs could be made of another commit than is written down, or of changed bytes."""

import pytest

from medvl_lib.fetching.downloads import Away
from medvl_lib.files import read_json
from medvl_lib.sources import Hub, Unpacking
from tests.fetching.conftest import Person
from tests.fetching.test_downloads import zipped
from tests.publisher_server import COMMIT, hub_pages

REPOSITORY = "mine/slake"
FILES = {
    "train.json": b'[{"q": 1}]', "data/train-00000-of-00001.parquet": bytes(range(256)) * 40,
    "imgs.zip": zipped({"imgs/xmlab1/source.jpg": b"1", "imgs/xmlab2/source.jpg": b"2"}), "README.md": b"a card",
}  # fmt: skip
PARQUET = f"/datasets/{REPOSITORY}/resolve/{COMMIT}/data/train-00000-of-00001.parquet"
WHOLE = {
    "train.json": FILES["train.json"], "data/train-00000-of-00001.parquet": FILES["data/train-00000-of-00001.parquet"],
    "imgs/xmlab1/source.jpg": b"1", "imgs/xmlab2/source.jpg": b"2",
}  # fmt: skip


def hub(**changes: object) -> Hub:
    fields = {
        "name": "hub", "repository": REPOSITORY, "revision": "", "files": ("*.json", "data/*.parquet", "imgs.zip"),
        "archives": {"imgs.zip": Unpacking()},
    } | changes  # fmt: skip
    return Hub(**fields)


@pytest.fixture(autouse=True)
def repository(person: Person) -> None:
    lfs = frozenset(["data/train-00000-of-00001.parquet", "imgs.zip"])
    person.publisher.files |= hub_pages(REPOSITORY, FILES, lfs)
    person.publisher.redirected = {PARQUET}


def test_the_files_that_are_wanted_come_in_the_readers_layout_and_the_commit_is_written_down(person: Person):
    found = person.fetch(hub())
    assert person.files() == WHOLE
    said = read_json(found.record)
    assert said["sources"] == [{"name": "hub", "page": f"https://huggingface.co/datasets/{REPOSITORY}", "version": COMMIT}]
    assert said["limits"] == {"max_bytes": None, "max_patients": None, "max_seconds": None, "max_studies_per_patient": None}
    assert (said["num_files"], said["num_bytes"], said["limit_reached"]) == (4, sum(map(len, WHOLE.values())), None)


def test_a_set_is_kept_at_the_commit_of_its_first_fetch(person: Person):
    person.fetch(hub())
    asked = len(person.publisher.seen)
    person.publisher.files[f"/api/datasets/{REPOSITORY}/commits/main"] = b"[]"
    (person.raw / "train.json").unlink()
    person.fetch(hub())
    assert person.files() == WHOLE
    assert len(person.publisher.seen) == asked + 1


def test_a_list_is_remembered_for_what_was_asked_alone(person: Person):
    person.fetch(hub(files=("*.json",)))
    assert set(person.files()) == {"train.json"}
    person.fetch(hub())
    assert person.files() == WHOLE
    assert person.is_refused(hub(revision="abc1234")).found == "no commit abc1234"  # and not the list of the commit before


@pytest.mark.parametrize("revision", [COMMIT[:7], COMMIT])
def test_a_pinned_commit_may_be_given_by_its_first_digits(person: Person, revision: str):
    person.fetch(hub(revision=revision))
    assert person.files() == WHOLE


def test_a_commit_that_is_not_there_is_named(person: Person):
    assert person.is_refused(hub(revision="abc1234")).found == "no commit abc1234"


@pytest.mark.parametrize("name", ["data/train-00000-of-00001.parquet", "train.json"])
def test_changed_contents_of_the_right_size_are_refused_by_name_and_fetched_anew(person: Person, name: str):
    path, true = f"/datasets/{REPOSITORY}/resolve/{COMMIT}/{name}", FILES[name]
    person.publisher.files[path] = true[:-1] + b"\x00"
    refused = person.is_refused(hub())
    assert refused.found.startswith(f"{name} came with {len(true)} bytes and the hash ")
    assert person.files() == {}
    person.publisher.files[path] = true
    person.fetch(hub())
    assert person.files() == WHOLE


def test_a_broken_connection_to_the_storage_is_taken_up(person: Person):
    person.publisher.cuts = [10**6, 10**6, 4000]  # the two lists, then the file
    person.fetch(hub(files=("data/*.parquet",)))
    assert person.publisher.ranges(PARQUET) == [None, "bytes=4000-"]


def test_the_token_opens_the_hub_and_stays_there(person: Person, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    person.publisher.opens = "Bearer hf_secret"
    found = person.fetch(hub())
    assert person.files() == WHOLE
    assert {(seen.host, seen.authorization) for seen in person.publisher.seen} == {("publisher", "Bearer hf_secret"), ("storage", None)}
    written = [path.read_bytes() for path in person.room.rglob("*") if path.is_file()]
    assert found.record.is_file()
    assert not [text for text in (*written, *capfd.readouterr()) if "hf_secret" in str(text)]


@pytest.mark.parametrize("status", [401, 403])
def test_a_repository_that_does_not_open_is_refused_with_the_way_to_a_token(person: Person, status: int):
    person.publisher.opens, person.publisher.refusal = "Bearer hf_secret", (status, {"X-Error-Code": "GatedRepo"})
    refused = person.is_refused(hub())
    assert f"the hub answered {status}: access is restricted, no token was sent" in refused.found
    assert "set HF_TOKEN in the environment" in refused.do


def test_without_a_network_the_hub_is_away(person: Person, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda _: None)  # the library's pauses between tries have no setting
    assert isinstance(person.is_refused(hub()), Away)


def test_a_repository_without_the_wanted_files_is_refused(person: Person):
    assert person.is_refused(hub(files=("*.csv",))).found == "none of *.csv"


def test_a_set_that_is_larger_than_it_may_be_is_refused_before_anything_comes(person: Person):
    refused = person.is_refused(hub(), max_bytes=1000)
    assert "this set is brought whole or not at all" in refused.do
    assert person.publisher.ranges(PARQUET) == []


def test_a_file_that_a_person_put_there_already_is_not_fetched(person: Person):
    target = person.raw / "data/train-00000-of-00001.parquet"
    target.parent.mkdir(parents=True)
    target.write_bytes(FILES["data/train-00000-of-00001.parquet"])
    person.fetch(hub())
    assert person.files() == WHOLE
    assert person.publisher.ranges(PARQUET) == []


def test_a_file_that_was_cut_on_this_machine_does_not_count_and_is_not_written_over(person: Person):
    person.fetch(hub())
    (person.raw / "data/train-00000-of-00001.parquet").write_bytes(b"cut")
    assert "other files of the same names, such as data/train" in person.is_refused(hub()).found
    (person.raw / "data/train-00000-of-00001.parquet").unlink()
    person.fetch(hub())
    assert person.files() == WHOLE
