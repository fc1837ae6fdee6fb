"""Credentialed sets, a patient at a time. If these passed wrongly, a password could stand in a file, half a patient's pictures be read as
all of them, or a page to log in be read as data.
"""

import base64
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib.files import read_json
from medvl_lib.sources import PhysioNet, Unpacking
from tests.fetching.conftest import Person
from tests.fetching.test_downloads import zipped

SECRET = "s3cr3t:word"
OPENS = "Basic " + base64.b64encode(f"adler:{SECRET}".encode()).decode()
TABLE = "mimic-cxr-2.0.0-metadata.csv.gz"
PICTURES = {
    f"files/p10/p1000000{patient}/s5000000{study}/{picture}.jpg": f"{patient}{study}{picture}".encode() * 1000
    for patient in range(1, 4)
    for study in (1, 2)
    for picture in ("aa-00", "bb-00")
}
REPORTS = {f"files/p10/p1000000{patient}/s5000000{study}.txt": b"FINDINGS" for patient in range(1, 4) for study in (1, 2)}
ZIP = "mimic-cxr-reports.zip"


def jpg(person: Person) -> PhysioNet:
    return PhysioNet(
        name="jpg", project="mimic-cxr-jpg", version="2.0.0", base=f"{person.publisher.url}/files",
        files=(r"mimic-cxr-2\.0\.0-metadata\.csv\.gz", r"files/p\d\d/p(?P<patient>\d{8})/s(?P<study>\d{8})/[-0-9a-f]+\.jpg"),
    )  # fmt: skip


def reports(person: Person) -> PhysioNet:
    return PhysioNet(
        name="reports", project="mimic-cxr", version="2.0.0", base=f"{person.publisher.url}/files", files=(r"mimic-cxr-reports\.zip",),
        archives={ZIP: Unpacking(member=r"files/p\d\d/p(?P<patient>\d{8})/s\d{8}\.txt")},
    )  # fmt: skip


def project(name: str, files: dict[str, bytes]) -> dict[str, bytes]:
    sums = "".join(f"{hashlib.sha256(data).hexdigest()} {path}\n" for path, data in files.items())
    return {f"/files/{name}/2.0.0/{path}": data for path, data in {**files, "SHA256SUMS.txt": sums.encode()}.items()}


@pytest.fixture(autouse=True)
def projects(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHYSIONET_USERNAME", "adler")
    monkeypatch.setenv("PHYSIONET_PASSWORD", SECRET)
    person.publisher.opens = OPENS
    person.publisher.files |= project("mimic-cxr-jpg", {TABLE: b"table", "README": b"x", **dict(reversed(PICTURES.items()))})
    person.publisher.files |= project("mimic-cxr", {ZIP: zipped(REPORTS), "other.zip": b"x"})


def patients(person: Person) -> set[str]:
    return {path.name for path in person.raw.glob("files/p10/*")}


def test_tables_pictures_and_reports_come_checked_by_the_publishers_list(person: Person):
    found = person.fetch(jpg(person), reports(person))
    assert person.files() == {TABLE: b"table", **PICTURES, **REPORTS}
    assert (found.num_patients, found.reached) == (3, "")
    assert {seen.authorization for seen in person.publisher.seen} == {OPENS}


def test_the_first_patients_come_whole_with_their_reports_and_the_limit_is_written_down(person: Person):
    found = person.fetch(jpg(person), reports(person), max_patients=2)
    assert patients(person) == {"p10000001", "p10000002"}
    assert len(person.files()) == 1 + 8 + 4
    assert read_json(found.record)["limits"]["max_patients"] == 2
    more = person.fetch(jpg(person), reports(person), max_patients=3)
    assert person.files() == {TABLE: b"table", **PICTURES, **REPORTS}
    assert more.num_placed == 4 + 6  # four pictures, and the reports are unpacked again


def test_of_each_patient_the_first_studies_come_whole(person: Person):
    person.fetch(jpg(person), max_studies_per_patient=1)
    assert {path.parent.name for path in person.raw.rglob("*.jpg")} == {"s50000001"}
    assert len(person.files()) == 1 + 6


def test_a_limit_of_bytes_places_whole_patients_alone_and_a_higher_one_goes_on(person: Person):
    a_patient = sum(len(data) for name, data in PICTURES.items() if "p10000001" in name)
    found = person.fetch(jpg(person), max_bytes=int(a_patient * 1.5))
    assert patients(person) == {"p10000001"}
    assert (found.reached, found.num_patients) == ("bytes", 1)
    assert person.fetch(jpg(person)).num_patients == 3
    assert sorted(person.files()) == sorted([TABLE, *PICTURES])
    asked = [seen.path for seen in person.publisher.seen if seen.path.endswith(".jpg")]
    assert len(asked) <= len(PICTURES) + 1  # the one that the limit cut is gone on with


def test_a_file_that_is_not_as_listed_stops_everything_and_nothing_is_placed(person: Person):
    name = next(iter(PICTURES))
    person.publisher.files[f"/files/mimic-cxr-jpg/2.0.0/{name}"] = b"<html>log in</html>"
    assert person.is_refused(jpg(person)).found.startswith(f"{name} came with 19 bytes and the hash ")
    assert person.files() == {}
    person.publisher.files[f"/files/mimic-cxr-jpg/2.0.0/{name}"] = PICTURES[name]
    person.fetch(jpg(person))
    assert sorted(person.files()) == sorted([TABLE, *PICTURES])


def test_a_page_to_log_in_is_not_taken_for_a_list(person: Person):
    person.publisher.opens, person.publisher.refusal, person.publisher.login = "other", (200, {}), b"<html>\nlog in\n"
    refused = person.is_refused(jpg(person))
    assert "line 1 of SHA256SUMS.txt is no checksum with a path" in refused.found
    assert "a page to log in" in refused.do
    person.publisher.opens = OPENS
    person.fetch(jpg(person))  # the page was not kept


@pytest.mark.parametrize("status", [401, 403])
def test_an_account_that_may_not_is_told_what_to_sign_and_the_password_stands_nowhere(
    person: Person, status: int, capfd: pytest.CaptureFixture[str]
):
    person.publisher.opens, person.publisher.refusal = "other", (status, {})
    refused = person.is_refused(jpg(person))
    assert "no access, what was sent does not open it" in refused.found
    assert "sign the agreement on https://physionet.org/content/mimic-cxr-jpg/2.0.0/" in refused.do
    person.publisher.opens = OPENS
    person.fetch(jpg(person))
    said = [str(refused), repr(refused.args), *capfd.readouterr()]
    said += [path.read_bytes().decode("latin-1") for path in person.folder.rglob("*") if path.is_file()]
    assert not [text for text in said if SECRET in text or OPENS.removeprefix("Basic ") in text]


def test_a_redirect_to_another_host_takes_no_password_along(person: Person):
    person.publisher.redirected = {f"/files/mimic-cxr-jpg/2.0.0/{TABLE}"}
    person.fetch(jpg(person))
    assert [seen.authorization for seen in person.publisher.seen if seen.host == "storage"] == [None]


@pytest.mark.parametrize("name", ["PHYSIONET_USERNAME", "PHYSIONET_PASSWORD"])
def test_without_credentials_nothing_is_asked(person: Person, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(name)
    assert person.is_refused(jpg(person)).found == f"no {name} in the environment"
    assert person.publisher.seen == []


def test_a_listed_path_that_leads_outside_is_refused(person: Person):
    sums = b"0" * 64 + b"  ../../evil.jpg\n"
    person.publisher.files["/files/mimic-cxr-jpg/2.0.0/SHA256SUMS.txt"] = sums
    assert "which leads outside" in person.is_refused(jpg(person)).found


def test_another_version_has_another_list(person: Person):
    person.fetch(jpg(person))
    asked = len(person.publisher.seen)
    newer = project("mimic-cxr-jpg", {TABLE: b"another table", **PICTURES})
    person.publisher.files |= {path.replace("/2.0.0/", "/2.1.0/"): data for path, data in newer.items()}
    refused = person.is_refused(replace(jpg(person), version="2.1.0"))
    assert refused.found == f"1 other files of the same names, such as {TABLE}"
    assert [seen.path for seen in person.publisher.seen[asked:]][:1] == ["/files/mimic-cxr-jpg/2.1.0/SHA256SUMS.txt"]


def test_one_of_several_sources_can_be_meant(person: Person, tmp_path: Path):
    person.fetch(jpg(person), reports(person), only=("reports",))
    assert person.files() == REPORTS
