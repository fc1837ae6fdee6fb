"""The endpoints on a real server. If these passed wrongly, a client of the requirement documents would be turned away, a batch would mix
its answers up, or a case of the same patient be shown.
"""

import io
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from unittest.mock import patch

import duckdb
import httpx2
import numpy as np
import pytest
from PIL import Image

from medvl_lib import case_index
from medvl_lib.captions import captioned_images
from medvl_lib.datasets.descriptions import DESCRIBE
from medvl_lib.lines import ENCODER
from medvl_lib.models.embedding import embed_stored
from medvl_lib.models.loading import load_encoder
from medvl_lib.provenance import judge, write_step
from medvl_lib.retrieved_cases import HEADINGS, before, worded
from medvl_lib.sample_data.captioned_pictures import draw_picture
from medvl_lib.sample_data.custom_reports import dicom
from medvl_lib.serving import cases, reading, uploads
from medvl_lib.serving.counter import Counter
from medvl_lib.serving.endpoints import cases as cases_endpoints
from medvl_lib.serving.endpoints import documents
from medvl_lib.serving.uploads import MAX_FILES, MAX_PICTURES
from medvl_lib.workspace import Workspace
from tests.matching_fixtures import SPEC, Gallery, copied
from tests.serving.conftest import CPU, PAGE, Project, serving, wait_until
from tests.serving.files import page, pdf, tiff
from tests.serving.test_app import ask, picture, refusal

PROMPT = "List every term with its value and unit."


def upload(client: httpx2.Client, path: str, *files: bytes, field: str = "image", **words: object) -> httpx2.Response:
    return client.post(path, data=words, files=[(field, ("upload", data, "application/octet-stream")) for data in files])


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


SCAN = Image.open(io.BytesIO(PAGE)).convert("RGB")


# -- the five of the requirement documents -----------------------------------------------------------------------------
# Their fifth wants 400 for a file that is none: 415 says which kind of bad request it is.
def test_health_says_ready_with_device_and_memory(base: httpx2.Client):
    health = base.get("/health").json()
    assert (health["status"], health["device"], health["model"]) == ("ready", "cpu", "medvl/tiny-qwen2.5-vl")
    assert health["memory"]["resident_bytes"] > 100_000_000
    assert health["memory"]["device_bytes"] is None


def test_health_is_asked_for_its_head_alone(base: httpx2.Client):
    asked, head = base.get("/health"), base.head("/health")
    assert (head.status_code, head.headers["content-type"], head.content) == (asked.status_code, asked.headers["content-type"], b"")


def test_extract_takes_their_form_and_finds_terms(base: httpx2.Client):
    said = upload(base, "/extract", PAGE, field="file").json()
    assert said == {**upload(base, "/extract", PAGE).json(), "latency_seconds": said["latency_seconds"]}
    assert said["facts"], said["text"]


def test_analyze_takes_their_form(base: httpx2.Client):
    assert upload(base, "/analyze", PAGE, field="file", prompt=PROMPT).json()["text"] == ask(base, PAGE, prompt=PROMPT).json()["text"]


def test_benchmark_says_what_was_measured_with_its_interval(counter: Callable[..., Counter], published: Workspace):
    with serving(counter(workspace=published)) as client:
        rows = client.get("/benchmark").json()["rows"]
        assert [(row["metric"], row["n"], row["mean"], row["ci_low"], row["ci_high"]) for row in rows] == [
            ("pair_accuracy", 60, 0.5, 0.4, 0.6), ("term_recall", 60, 0.9, 0.8, 1.0)
        ]  # fmt: skip
        assert [row["metric"] for row in client.get("/benchmark", params={"metric": "term_recall"}).json()["rows"]] == ["term_recall"]
        assert refusal(client.get("/benchmark", params={"line": "imaging"}))[0] == 404
        assert refusal(client.get("/benchmark", params={"metric": "a' or 1=1 --"}))[0] == 404


def test_extract_refuses_what_is_no_picture(base: httpx2.Client):
    assert refusal(upload(base, "/extract", b"not a picture", field="file"))[0] == 415


@pytest.fixture
def published(tmp_path: Path) -> Workspace:
    """A store with the columns of the real view, and two rows."""
    workspace = Workspace(root=tmp_path)
    publish_two_rows(workspace)
    return workspace


def publish_two_rows(workspace: Workspace) -> None:
    with duckdb.connect(str(workspace.store)) as store:
        store.execute(
            """create view leaderboard as select 'documents' as line, 'clinical_documents' as dataset, metric, 'all' as slice,
            null::varchar as stage,
            'as_is' as condition, 'adapter' as variant, 'float32' as precision, 60 as n, 20 as num_clusters, mean, mean - 0.1 as ci_low,
            mean + 0.1 as ci_high, null as interval_note, 0.1 as p50_seconds_per_answer, 8 as batch_size, 12.5 as memory_mb,
            true as is_higher_better, 1.0 as highest, null as signature, now() as evaluated_at, 'e' as evaluation_id
            from (values ('pair_accuracy', 0.5), ('term_recall', 0.9)) _(metric, mean) order by metric"""
        )


def test_the_row_of_the_benchmark_has_the_columns_of_the_view():
    from medvl_lib.benchmark.publish import SCHEMA
    from medvl_lib.serving.endpoints.benchmark import Row

    view = re.search(r"create view leaderboard as\nselect\n(.*?)\nfrom", SCHEMA.read_text(encoding="utf-8"), re.DOTALL)
    assert view is not None
    assert [line.strip(" ,").split()[-1].split(".")[-1] for line in view[1].splitlines()] == list(Row.model_fields)


# -- several files -----------------------------------------------------------------------------------------------------
def test_the_pages_of_a_pdf_are_shown_together_like_as_many_pictures(base: httpx2.Client):
    together = upload(base, "/analyze", tiff([SCAN, SCAN]), prompt=PROMPT).json()
    assert together["text"] == upload(base, "/analyze", png(SCAN), png(SCAN), prompt=PROMPT).json()["text"]
    drawn = upload(base, "/analyze", pdf([SCAN, SCAN]), prompt=PROMPT).json()
    assert drawn["num_prompt_tokens"] > upload(base, "/analyze", pdf([SCAN]), prompt=PROMPT).json()["num_prompt_tokens"]


def test_each_file_of_a_batch_is_answered_by_itself_and_a_bad_one_spoils_none(base: httpx2.Client):
    other = picture("PNG", (84, 84))
    told = upload(base, "/extract/batch", PAGE, b"no picture", other, field="file").json()["answers"]
    assert [(one["file"], one["page"]) for one in told] == [(1, None), (2, None), (3, None)]
    assert told[0]["answer"]["text"] == upload(base, "/extract", PAGE).json()["text"]
    assert told[0]["answer"]["facts"] == upload(base, "/extract", PAGE).json()["facts"]
    assert (told[1]["answer"], told[1]["problem"]["status"]) == (None, 415)
    assert told[2]["answer"]["text"] == upload(base, "/extract", other).json()["text"]
    assert told[0]["problem"] is told[2]["problem"] is None


def test_what_nobody_foresaw_of_one_file_spoils_no_other(
    base: httpx2.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def facts(text: str) -> list[object]:
        calls.append(text)
        if len(calls) == 1:
            raise RuntimeError("a patient's words")
        return []

    def read(data: bytes, **more: int) -> uploads.Document:
        if data == b"odd":
            raise ZeroDivisionError("a patient's words")
        return uploads.read_document(data, **more)

    calls: list[str] = []
    monkeypatch.setattr(documents, "stated_facts", facts)
    monkeypatch.setattr(reading, "read_document", read)
    told = upload(base, "/extract/batch", PAGE, b"odd", PAGE, field="file").json()["answers"]
    assert sorted(one["problem"]["status"] if one["problem"] else 200 for one in told) == [200, 500, 500]
    assert told[1]["problem"]["detail"] == "the server failed: its log says where"
    assert "ZeroDivisionError at test_endpoints.py" in caplog.text
    assert "patient's words" not in caplog.text + str(told)


def test_each_page_of_a_file_is_asked_about_by_itself(base: httpx2.Client):
    blank = page((255, 255, 255), SCAN.size)
    told = upload(base, "/analyze/batch", tiff([SCAN, blank]), PAGE, field="file", prompt=PROMPT, by="page").json()["answers"]
    assert [(one["file"], one["page"]) for one in told] == [(1, 1), (1, 2), (2, 1)]
    wanted = [upload(base, "/analyze", data, prompt=PROMPT).json()["text"] for data in (png(SCAN), png(blank), PAGE)]
    assert [one["answer"]["text"] for one in told] == wanted
    assert wanted[0] == wanted[2] != wanted[1]


def test_a_batch_has_its_bounds(base: httpx2.Client):
    for number in (MAX_FILES + 1, 2 * MAX_FILES):
        told = refusal(upload(base, "/extract/batch", *[b"x"] * number, field="file"))
        assert told == (422, f"more than {MAX_FILES} files in one form: send fewer at a time")
    long = tiff([page((1, 2, 3), (32, 32))] * (MAX_FILES // 2 + 1))
    assert refusal(upload(base, "/extract/batch", long, long, field="file", by="page"))[0] == 422
    [told] = upload(base, "/extract/batch", tiff([SCAN] * (MAX_PICTURES + 1)), field="file").json()["answers"]
    assert told["problem"]["status"] == 422
    assert refusal(upload(base, "/extract", *[picture("PNG")] * (MAX_PICTURES - 1), tiff([SCAN, SCAN])))[0] == 422


def test_a_batch_that_is_too_much_is_refused_before_its_next_file_is_read(base: httpx2.Client, monkeypatch: pytest.MonkeyPatch):
    def read(data: bytes, **more: int) -> uploads.Document:
        seen.append(threading.current_thread().name)
        return uploads.read_document(data, **more)

    seen: list[str] = []
    monkeypatch.setattr(reading, "read_document", read)
    pages = tiff([page((1, 2, 3), (32, 32))] * (MAX_FILES // 2 + 1))
    assert refusal(upload(base, "/extract/batch", *[pages] * 5, field="file", by="page"))[0] == 422
    assert len(seen) == 2
    assert {name.partition("_")[0] for name in seen} == {"reader"}
    seen.clear()
    monkeypatch.setattr(documents, "MAX_BATCH_BYTES", 2 * len(PAGE))
    assert refusal(upload(base, "/extract/batch", *[PAGE] * 5, field="file"))[0] == 413
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("/analyze", "file, image, prompt"), ("/extract", "file, image"), ("/describe", "file, image, language, with_cases"),
        ("/analyze/batch", "by, file, prompt"), ("/extract/batch", "by, file"), ("/embed", "file, image"),
        ("/similar", "count, file, image, language, not_of"),
    ],
)  # fmt: skip
def test_a_field_that_is_misspelt_is_refused_and_not_ignored(base: httpx2.Client, path: str, known: str):
    for words in ({"question": "Miller"}, {"temperature": "2"}):
        told = refusal(upload(base, path, PAGE, field="file", **words))
        assert told == (422, f"a form with an unknown field ({next(iter(words))}): send {known}")
    assert refusal(base.post(path, data={"Mrs Miller, 1.2.1934": "x"}))[1].startswith("a form with an unknown field (?)")
    schema = base.get("/openapi.json").json()["components"]["schemas"]
    [form] = [body for name, body in schema.items() if name.startswith("Body_") and sorted(body["properties"]) == known.split(", ")][:1]
    assert form["additionalProperties"] is False


# -- describe ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_description_is_the_answer_to_the_question_of_every_described_picture(base: httpx2.Client, language: str):
    said = upload(base, "/describe", PAGE, language=language).json()
    assert (said["request"], said["num_cases"]) == (DESCRIBE[language], 0)
    assert said["text"] == ask(base, PAGE, prompt=DESCRIBE[language]).json()["text"]
    assert refusal(upload(base, "/describe", PAGE, language="fr"))[0] == 422
    assert refusal(upload(base, "/describe"))[0] == 422


def test_a_picture_that_is_cut_short_is_the_senders_to_mend(base: httpx2.Client):
    assert refusal(upload(base, "/describe", PAGE[:-400])) == (415, "a picture that cannot be decoded to its end: send it whole")


# -- similar cases -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def with_index(
    gallery: Gallery, project: Project, counter: Callable[..., Counter], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx2.Client]:
    """A server of the same model on a line that has an encoder and an index of captioned pictures."""
    made = Workspace(root=tmp_path_factory.mktemp("indexed") / "data")
    line = replace(project.line, stages=(replace(ENCODER, model=SPEC), *project.line.stages))
    chat = write_step(made, "chat", line.name, "v", [], copied(gallery.chat))
    encoder = write_step(made, "encoder", line.name, "v", [chat], copied(gallery.weights))

    def write(directory: Path) -> dict:
        loaded, embedded = load_encoder(gallery.weights, SPEC, CPU), list[case_index.Embedded]()
        for split in ("train", "validation"):
            captions = list(captioned_images(gallery.chat, split))
            vectors = embed_stored(loaded, gallery.images, [item.image_id for item in captions])
            embedded.append(case_index.Embedded(captions, vectors))
        return case_index.write_index(directory, *embedded)

    judge(made, write_step(made, "index", line.name, "v", [chat, encoder], write), case_index.RULES)
    with serving(counter(line=line, workspace=made)) as client:
        wait_until(client, "ready")
        yield client


LESION = draw_picture("elsewhere", 1).png
KNOWN = draw_picture("tests/train", 4).png  # of the patient of pairs 4 and 5


def test_a_picture_has_its_place_and_it_is_a_unit_vector(with_index: httpx2.Client):
    first, again, other = (upload(with_index, "/embed", data).json() for data in (LESION, LESION, KNOWN))
    assert first == again
    assert first["line"] == "documents"
    assert np.linalg.norm(first["embedding"]) == pytest.approx(1, abs=1e-5)
    assert np.dot(first["embedding"], other["embedding"]) < 0.99999


def test_similar_cases_come_best_first_and_never_of_the_same_patient(with_index: httpx2.Client):
    found = upload(with_index, "/similar", LESION, count=30).json()["cases"]
    assert len(found) == 24
    assert [case["similarity"] for case in found] == sorted((case["similarity"] for case in found), reverse=True)
    own = {"invented/train/004", "invented/train/005"}
    assert not own & {case["pair_id"] for case in upload(with_index, "/similar", KNOWN, count=30).json()["cases"]}
    nearest = found[0]["pair_id"]
    subject = f"invented/train-{int(nearest[-3:]) // 2}"
    others = upload(with_index, "/similar", LESION, count=30, not_of=[subject, "invented/nobody"]).json()
    assert len(others["cases"]) == 22
    assert nearest not in {case["pair_id"] for case in others["cases"]}
    assert others["not_of_known"] == [subject]  # a name that is misspelt keeps nobody out, and shows


@pytest.mark.parametrize("path", ["/embed", "/similar"])
def test_one_picture_has_its_place_and_not_the_last_of_several(with_index: httpx2.Client, path: str):
    several = (422, "2 files: send one picture, in the form field image")
    assert refusal(upload(with_index, path, LESION, KNOWN)) == several
    both = [(field, ("upload", LESION, "image/png")) for field in ("image", "file")]
    assert refusal(with_index.post(path, files=both)) == several
    assert refusal(with_index.post(path)) == (422, "0 files: send one picture, in the form field image")
    assert refusal(upload(with_index, path, tiff([SCAN, SCAN]))) == (422, "2 pages: send one picture, in the form field image")
    assert upload(with_index, path, LESION, field="file").json() == upload(with_index, path, LESION).json()


def test_similar_cases_are_as_many_pairs(with_index: httpx2.Client):
    with patch.object(cases, "nearest", wraps=cases.nearest) as asked:
        found = [case["pair_id"] for case in upload(with_index, "/similar", LESION, count=30).json()["cases"]]
    assert len(found) == len(set(found))
    assert asked.call_args.kwargs["each"] == "pair"


def test_a_text_is_shown_only_where_its_datasets_card_allows_it(with_index: httpx2.Client, monkeypatch: pytest.MonkeyPatch):
    assert upload(with_index, "/similar", LESION).json()["cases"][0]["text"] is None
    monkeypatch.setattr(cases_endpoints, "SHOWN_LICENCES", MappingProxyType({"invented": "CC0-1.0"}))
    [case] = upload(with_index, "/similar", LESION, count=1).json()["cases"]
    assert case["text"] == draw_picture("tests/train", int(case["pair_id"][-3:])).caption
    assert {case["language"] for case in upload(with_index, "/similar", LESION, count=9, language="zh").json()["cases"]} == {"zh"}


def test_similar_cases_stand_before_the_question_when_they_are_wanted(with_index: httpx2.Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cases_endpoints, "SHOWN_LICENCES", MappingProxyType({"invented": "CC0-1.0"}))
    said = upload(with_index, "/describe", LESION, with_cases="true").json()
    assert said["num_cases"] == 3
    texts = [case["text"] for case in upload(with_index, "/similar", LESION, count=3, language="en").json()["cases"]]
    wanted = before(worded(HEADINGS["en"], texts), DESCRIBE["en"])
    assert said["text"] == ask(with_index, LESION, prompt=wanted).json()["text"]
    assert said["num_prompt_tokens"] > upload(with_index, "/describe", LESION).json()["num_prompt_tokens"]


def test_no_case_before_the_question_is_of_a_patient_of_any_of_its_pictures(with_index: httpx2.Client):
    """A second picture that the line was trained on would find its own text, and the answer be copied."""
    shown = {
        name: [case["pair_id"] for case in upload(with_index, "/similar", data, count=30, language="en").json()["cases"]]
        for name, data in (("known", KNOWN), ("lesion", LESION))
    }  # fmt: skip
    assert set(shown["lesion"]) - set(shown["known"])  # those of the patient whose picture is known
    with patch.object(documents, "before_it", wraps=documents.before_it) as asked:
        upload(with_index, "/describe", LESION, KNOWN, with_cases="true")
        upload(with_index, "/describe", LESION, with_cases="true")
    together, alone = (call.args[2] for call in asked.call_args_list)
    own = {draw_picture("tests/train", number).caption for number in (4, 5)}
    assert own.isdisjoint(together)
    assert together != alone  # the second picture is looked for, too
    assert len(together) == len(alone) == 3


def test_a_second_picture_that_is_cut_short_is_the_senders_to_mend_too(with_index: httpx2.Client):
    for pictures in ((LESION, PAGE[:-400]), (PAGE[:-400], LESION)):
        assert refusal(upload(with_index, "/describe", *pictures, with_cases="true"))[0] == 415


@pytest.mark.parametrize("path", ["/embed", "/similar"])
def test_a_line_without_an_encoder_says_so(base: httpx2.Client, path: str):
    assert refusal(upload(base, path, PAGE)) == (404, "the line documents has no encoder: name a line that has one")


@pytest.mark.parametrize("path", ["/embed", "/similar"])
def test_what_is_no_picture_has_no_place(with_index: httpx2.Client, path: str):
    assert refusal(upload(with_index, path, b"x"))[0] == 415
    assert refusal(upload(with_index, path, PAGE[: len(PAGE) // 2]))[0] == 415
    assert refusal(upload(with_index, path, tiff([SCAN, SCAN])))[0] == 422
    assert refusal(with_index.post(path))[0] == 422


def test_an_index_that_is_not_there_is_told(counter: Callable[..., Counter], project: Project, tmp_path: Path):
    line = replace(project.line, stages=(replace(ENCODER, model=SPEC), *project.line.stages))
    with serving(counter(line=line, workspace=Workspace(root=tmp_path))) as client:
        response = upload(client, "/similar", LESION)
        assert refusal(response)[0] == 503
        assert response.headers["retry-after"] == "5"


# -- who the patient is ------------------------------------------------------------------------------------------------
def test_what_may_name_a_patient_is_told_beside_the_answer(base: httpx2.Client):
    film = dicom(np.zeros((56, 56), np.uint8), "1.2.3", PatientName="Invented^Person")
    said = upload(base, "/analyze", PAGE, film, prompt="What has MRN 00412-7?").json()["identifying"]
    assert [(one["where"], one["kind"]) for one in said] == [("picture 2", "dicom"), ("prompt", "record_number")]
    assert "PatientName" in said[0]["detail"]
    assert "Invented" not in str(said)
    assert upload(base, "/analyze", PAGE, prompt=PROMPT).json()["identifying"] == []


# -- the pages of the server itself ------------------------------------------------------------------------------------
def test_the_reference_page_loads_nothing_from_elsewhere_and_names_every_endpoint(base: httpx2.Client):
    page = base.get("/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<script" not in page.text
    assert not re.findall(r"(?:src|href)=\"?(?:https?:)?//", page.text)
    for path in base.get("/openapi.json").json()["paths"]:
        assert f" {path}</code>" in page.text


def test_no_other_site_may_ask(base: httpx2.Client):
    """No CORS: a browser asks first, and gets no word that would let it go on."""
    asked = base.options("/analyze", headers={"origin": "http://localhost:3000", "access-control-request-method": "POST"})
    assert asked.status_code == 405
    assert not [name for name in (*asked.headers, *base.get("/health").headers) if name.startswith("access-control")]


def test_the_documents_name_every_endpoint_and_no_other(base: httpx2.Client):
    text = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    named = set(re.findall(r"127\.0\.0\.1:8000(/[a-z0-9/_.]+)", text)) - {"/docs", "/v1"}  # a page, and where a client finds the others
    paths = set(base.get("/openapi.json").json()["paths"])
    by_name = {path for path in paths if "{" in path}
    assert named == paths - by_name
    assert not [path for path in by_name if f"`{path}`" not in text]
