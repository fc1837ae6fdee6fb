"""What the server answers, refuses and keeps to itself. If these passed wrongly, a served answer could differ from the judged one, a
hostile upload take the server down, or a patient's text stand in a log.
"""

import io
import json
import logging
import struct
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import httpx2
import numpy as np
import pytest
from PIL import Image

from medvl_lib.errors import InputRefused, MedVLError
from medvl_lib.evaluation.answering import Speaker
from medvl_lib.images import ImageStore
from medvl_lib.models.loading import load
from medvl_lib.prompts import split_answer
from medvl_lib.sample_data.custom_reports import dicom
from medvl_lib.serving import app, desk
from medvl_lib.serving.app import Counter
from medvl_lib.serving.keys import Keys
from medvl_lib.serving.resident import Listener, Resident
from medvl_lib.serving.running import Serving, counter_of
from medvl_lib.serving.served import ServedModel
from medvl_lib.serving.uploads import MAX_BODY_BYTES, MAX_PIXELS, MAX_PROMPT_CHARACTERS
from tests.serving.conftest import CPU, PAGE, Project, serving, wait_until
from tests.serving.files import tiff
from tests.serving.hostile import form

PROMPT = "List every term with its value and unit."


def ask(client: httpx2.Client, *pictures: bytes, prompt: str = PROMPT, path: str = "/analyze", **more: object) -> httpx2.Response:
    files = [("image", ("page.png", data, "image/png")) for data in pictures]
    return client.post(path, data={"prompt": prompt} if path == "/analyze" else None, files=files, **more)


def refusal(response: httpx2.Response) -> tuple[int, str]:
    """Status and detail of a problem, whose shape is RFC 9457's."""
    assert response.headers["content-type"] == "application/problem+json"
    said = response.json()
    assert said.keys() == {"type", "title", "status", "detail"}
    assert said["status"] == response.status_code
    return response.status_code, said["detail"]


def picture(form: str, size: tuple[int, int] = (56, 56), **more: object) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, "white").save(stream, form, **more)
    return stream.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that says how large it is, and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def as_evaluated(project: Project, variant: str) -> dict[str, str]:
    """What the evaluation's own speaker says, one pair at a time, from the image store."""
    model = project.model(variant)
    profile = replace(CPU, prediction_batch=1)
    adapter = model.adapter and model.adapter.directory
    speaker = Speaker(
        variant=model.variant, condition="as_is", loaded=load(model.weights.directory, project.line.model, profile, adapter=adapter),
        evaluation=project.line.evaluation, images=ImageStore(project.workspace.images), profile=profile,
        adapter=None if adapter is None else "default",
    )  # fmt: skip
    return {row.pair_id: row.answer for row in speaker.answers([project.conversations])}


def changed(resident: Resident, kind: type[Resident]) -> Resident:
    """The same model, of a kind that does something otherwise."""
    return kind(**{field.name: getattr(resident, field.name) for field in fields(Resident)})


# -- answers -----------------------------------------------------------------------------------------------------------
def test_where_nothing_was_promoted_the_base_model_answers_and_says_so(base: httpx2.Client, project: Project):
    health = wait_until(base, "ready")
    assert (health["variant"], health["is_promoted"], health["decision"], health["adapter"]) == ("base", False, None, None)
    assert health["says"] == "documents serves the base model as it is: nothing was promoted yet"
    assert health["weights"] == {"step": "base_model", "fingerprint": project.weights["base"].fingerprint}
    assert (health["device"], health["precision"], health["is_current"]) == ("cpu", "float32", True)
    said = ask(base, PAGE).json()
    assert said["text"].strip()
    assert said["data_version"] == health["data_version"] == project.weights["base"].data_version
    assert (said["line"], said["variant"], said["batch_size"]) == ("documents", "base", 1)
    assert said["num_prompt_tokens"] > 40
    assert 1 <= said["num_answer_tokens"] <= 24
    assert said["latency_seconds"] > 0


@pytest.mark.parametrize("variant", ["base", "nf4", "adapter"])
def test_the_server_says_what_the_evaluation_heard(variant: str, project: Project, counter: Callable[..., Counter]):
    wanted = as_evaluated(project, variant)
    store = ImageStore(project.workspace.images)
    with serving(counter(variant)) as client:
        health = wait_until(client, "ready")
        said = {
            item.pair_id: ask(
                client, *map(store.read, item.image_ids), prompt=split_answer(item.messages)[0][0]["content"][-1]["text"]
            ).json()["text"]
            for item in project.conversations
        }  # fmt: skip
    assert said == wanted
    assert len(set(wanted.values())) > 1
    assert health["variant"] == variant
    assert health["is_promoted"] == (variant != "base")


def test_an_adapter_says_something_else_than_its_weights(project: Project):
    assert as_evaluated(project, "adapter") != as_evaluated(project, "nf4")


def test_a_promoted_adapter_is_named_with_its_weights_and_decision(project: Project, counter: Callable[..., Counter]):
    with serving(counter("adapter")) as client:
        health = wait_until(client, "ready")
    assert health["adapter"] == {"step": "adapter", "fingerprint": project.adapter.fingerprint}
    assert health["weights"] == {"step": "nf4_model", "fingerprint": project.weights["nf4"].fingerprint}
    assert health["decision"] == {"step": "promotion", "fingerprint": "0123456789abcdef"}
    assert health["precision"] == "nf4+float32"
    assert health["is_current"] is False  # the pointer was taken away meanwhile


def test_extract_asks_the_lines_own_question_and_says_where_each_fact_stands(base: httpx2.Client, project: Project):
    said = ask(base, PAGE, path="/extract").json()
    assert said["request"] == project.line.extraction_request
    assert said["text"] == ask(base, PAGE, prompt=project.line.extraction_request).json()["text"]
    assert said["facts"], said["text"]  # the small model reads such pages
    for fact in said["facts"]:
        for name in ("term", "value"):
            span = fact[f"{name}_span"]
            assert said["text"][span["start"] : span["end"]] == fact[name]


def test_a_question_without_a_picture_is_answered(base: httpx2.Client):
    assert base.post("/analyze", data={"prompt": PROMPT}).status_code == 200


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"])
def test_a_picture_is_known_by_its_contents(base: httpx2.Client, form: str):
    assert base.post("/analyze", data={"prompt": PROMPT}, files={"image": ("notes.txt", picture(form), "text/plain")}).status_code == 200


def test_a_turned_picture_is_seen_upright(base: httpx2.Client):
    page = Image.open(io.BytesIO(PAGE)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it right by 90 degrees
    stream = io.BytesIO()
    page.transpose(Image.Transpose.ROTATE_90).save(stream, "PNG", exif=exif)
    assert ask(base, stream.getvalue()).json()["text"] == ask(base, PAGE).json()["text"]


def test_requests_that_come_together_are_all_answered_and_alike(base: httpx2.Client):
    wanted = ask(base, PAGE).json()["text"]
    said: list[str] = []
    threads = [threading.Thread(target=lambda: said.append(ask(base, PAGE).json()["text"])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == [wanted] * 4


# -- refusals ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("data", "status", "found"),
    [
        (b"", 415, "0 bytes that are no picture"),
        (b"%PDF-1.7 not a picture", 415, "a PDF that cannot be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "no picture"),  # Pillow would start another program
        (PAGE[: len(PAGE) // 2], 415, "cannot be decoded to its end"),
        (png_header(20_000, 20_000), 413, f"more than {MAX_PIXELS} pixels"),
        (png_header(4_001, 4_000), 413, f"more than {MAX_PIXELS} pixels"),
        (picture("PNG", (9000, 8)), 422, "9000 x 8 pixels"),
    ],
    ids=["nothing", "pdf", "postscript", "cut", "400 megapixels", "16 megapixels and a column", "a line"],
)  # fmt: skip
def test_an_upload_that_is_no_sound_picture_is_refused(base: httpx2.Client, data: bytes, status: int, found: str):
    got, detail = refusal(ask(base, data))
    assert got == status
    assert found in detail


WHOLE_BUT = {
    "no window": (dicom(np.zeros((56, 56), np.uint16), "1.2.3", WindowCenter=5, WindowWidth=0), "WindowWidth"),
    "less than no window": (dicom(np.zeros((56, 56), np.uint16), "1.2.3", WindowCenter=5, WindowWidth=-9), "WindowWidth"),
    "99 bits": (dicom(np.zeros((56, 56), np.uint16), "1.2.3", BitsStored=99), "BitsStored"),
    "odd colours": (dicom(np.zeros((56, 56), np.uint16), "1.2.3", PhotometricInterpretation="MILLER"), "PhotometricInterpretation"),
    "no numbers": (tiff([Image.fromarray(np.full((56, 56), np.nan, np.float32))]), "gray values that are infinite or no numbers"),
}


@pytest.mark.parametrize("kind", WHOLE_BUT)
@pytest.mark.parametrize("path", ["/analyze", "/extract/batch"])
def test_a_picture_that_is_whole_and_cannot_be_shown_is_told_why(base: httpx2.Client, kind: str, path: str):
    data, why = WHOLE_BUT[kind]
    if path == "/analyze":
        status, detail = refusal(ask(base, data))
    else:
        [told] = base.post(path, files=[("file", ("a", data, "image/png"))]).json()["answers"]
        status, detail = told["problem"]["status"], told["problem"]["detail"]
    assert status == 415
    assert why in detail
    assert "send it whole" not in detail
    assert "MILLER" not in detail


def test_a_dicom_file_that_is_cut_short_is_to_be_sent_whole(base: httpx2.Client):
    film = dicom(np.zeros((56, 56), np.uint16), "1.2.3")
    assert refusal(ask(base, film[:-400])) == (415, "a picture that cannot be decoded to its end: send it whole")


def test_an_upload_that_is_too_large_is_refused(base: httpx2.Client):
    assert refusal(ask(base, b"\0" * (MAX_BODY_BYTES + 1)))[0] == 413


def test_an_upload_of_unknown_length_that_is_too_large_is_refused(base: httpx2.Client):
    def endless():
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
        for _ in range(MAX_BODY_BYTES // (1 << 20) + 1):
            yield b"\0" * (1 << 20)

    response = base.post("/analyze", content=endless(), headers={"content-type": "multipart/form-data; boundary=b"})
    assert refusal(response)[0] == 413


@pytest.mark.parametrize(
    ("prompt", "found"),
    [("", "prompt"), (" \n", "an empty prompt"), ("a" * (MAX_PROMPT_CHARACTERS + 1), "characters"), ("<|image_pad|>", "a special token")],
)
def test_a_prompt_that_cannot_be_meant_is_refused(base: httpx2.Client, prompt: str, found: str):
    status, detail = refusal(ask(base, PAGE, prompt=prompt))
    assert status == 422
    assert found in detail


def test_too_many_pictures_and_none_where_one_is_needed_are_refused(base: httpx2.Client):
    assert refusal(ask(base, *[picture("PNG")] * 9))[0] == 422
    assert refusal(base.post("/extract", files={"other": b"x"}))[0] == 422


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/analyze", 405), ("GET", "/redoc", 404)])
def test_what_does_not_exist_is_a_problem_too(base: httpx2.Client, method: str, path: str, status: int):
    assert refusal(base.request(method, path))[0] == status


def test_what_was_sent_is_not_said_back(base: httpx2.Client):
    response = base.post("/analyze", data={"question": "Mrs Miller has a secret"}, files={"image": PAGE})
    assert refusal(response)[0] == 422
    assert "Miller" not in response.text


def test_a_name_elsewhere_that_was_pointed_here_is_refused(base: httpx2.Client):
    assert refusal(base.get("/health", headers={"host": "evil.example:8000"}))[0] == 421


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://evil.example", 403), ("https://127.0.0.1.evil.example", 403), ("null", 403), ("http://localhost:3000", 200), ("", 200)],
)
def test_a_page_of_another_site_is_refused(base: httpx2.Client, origin: str, status: int):
    assert ask(base, PAGE, headers={"origin": origin} if origin else {}).status_code == status


def test_with_a_key_everything_but_health_wants_it(counter: Callable[..., Counter]):
    with serving(counter(keys=Keys({"": "a secret of enough letters"}))) as client:
        wait_until(client, "ready")
        assert refusal(ask(client, PAGE))[0] == 401
        assert refusal(ask(client, PAGE, headers={"authorization": "Bearer a wrong one"}))[0] == 401
        assert refusal(client.get("/openapi.json"))[0] == 401
        assert ask(client, PAGE, headers={"authorization": "Bearer a secret of enough letters"}).status_code == 200


def test_a_dicom_file_is_a_picture_and_a_damaged_one_is_refused(base: httpx2.Client):
    shown = dicom(np.arange(56 * 56, dtype=np.uint16).reshape(56, 56), "1.2.3", PhotometricInterpretation="MONOCHROME2")
    assert ask(base, shown).status_code == 200
    assert refusal(ask(base, shown[: len(shown) // 2]))[0] == 415


def test_whoever_comes_behind_a_full_queue_is_sent_away(counter: Callable[..., Counter], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(desk, "MAX_WAITING", 1)
    told, is_asked, may_answer = counter(), threading.Event(), threading.Event()

    def slow():
        resident = told.load()

        class Slow(Resident):
            def tell(self, listeners: Sequence[Listener], joining: object = None, most: object = None) -> None:
                is_asked.set()
                may_answer.wait(60)
                resident.tell(listeners)

        return changed(resident, Slow)

    with serving(replace(told, load=slow)) as client, ThreadPoolExecutor(1) as other:
        wait_until(client, "ready")
        first = other.submit(ask, client, PAGE)
        assert is_asked.wait(60)
        response = ask(client, PAGE)
        assert refusal(response) == (429, f"1 requests that wait already: ask again in {response.headers['retry-after']} seconds")
        may_answer.set()
        assert first.result().status_code == 200
        assert ask(client, PAGE).status_code == 200


# -- when the pointer moves --------------------------------------------------------------------------------------------
def test_what_the_pointer_comes_to_name_is_served_without_a_restart(project: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(app, "FOLLOW_SECONDS", 0.05)
    refused: list[str] = []

    def compare(model: ServedModel) -> str:
        if model.variant in refused:
            raise InputRefused(found="nobody compared it", where="/data/parity", do="materialize documents/parity")
        return f"{model.variant} was compared"

    told = Serving(
        model=project.model("base"), compared="by nobody", line=project.line, profile=CPU, workspace=project.workspace, keys=None,
        compare=compare,
    )  # fmt: skip
    try:
        with serving(counter_of(told)) as client:
            wait_until(client, "ready")
            before = ask(client, PAGE).json()
            served = project.promote("adapter")
            health = _wait_for(client, variant="adapter", status="ready")
            assert (health["compared"], health["is_current"], health["data_version"]) == ("adapter was compared", True, served.data_version)
            after = ask(client, PAGE).json()
            assert (after["variant"], after["data_version"]) == ("adapter", served.data_version)
            assert after["text"] != before["text"]
            refused.append("nf4")  # what the pointer names now may not be served, and what was left has its reasons
            project.promote("nf4")
            health = _wait_for(client, variant="adapter", status="failed")
            assert health["reason"] == "nobody compared it: materialize documents/parity"
            assert ask(client, PAGE).status_code == 503
            project.demote()
            _wait_for(client, variant="base", status="ready")
            assert ask(client, PAGE).json()["text"] == before["text"]
    finally:
        project.demote()


def _wait_for(client: httpx2.Client, **wanted: str) -> dict[str, object]:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        health = client.get("/health").json()
        if all(health[name] == value for name, value in wanted.items()):
            return health
        time.sleep(0.05)
    raise AssertionError(health)


# -- before it is ready, and when it never is --------------------------------------------------------------------------
def test_until_the_weights_are_there_it_says_so(counter: Callable[..., Counter], project: Project):
    may_load = threading.Event()
    told = counter()

    def slowly():
        may_load.wait(60)
        return told.load()

    with serving(replace(told, load=slowly)) as client:
        response = client.get("/health")
        assert (response.status_code, response.json()["status"], response.json()["precision"]) == (503, "loading", None)
        response = ask(client, PAGE)
        assert refusal(response) == (503, "not ready, the weights are being loaded: ask /health, and again when it says ready")
        assert response.headers["retry-after"] == "5"
        may_load.set()
        wait_until(client, "ready")
        assert ask(client, PAGE).status_code == 200


def test_weights_that_cannot_be_loaded_are_told_with_their_cure(counter: Callable[..., Counter]):
    def fail():
        raise MedVLError(found="3 missing tensors", where="/data/base_model", do="bring them")

    with serving(counter(load=fail)) as client:
        assert wait_until(client, "failed")["reason"] == "3 missing tensors: bring them"  # where it lies is not told to whoever asks
        assert refusal(ask(client, PAGE))[0] == 503


# -- what is kept ------------------------------------------------------------------------------------------------------
def test_no_log_holds_what_was_asked_or_answered(base: httpx2.Client, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG):
        said = ask(base, PAGE, prompt="What has Mrs Miller?").json()["text"]
        base.get("/Miller?name=Miller")
        base.get("/health?name=Miller")
        ask(base, b"Miller")
    ours = [record for record in caplog.records if record.name.startswith(("medvl_lib", "uvicorn"))]  # the rest is the client's
    written = "\n".join(record.getMessage() for record in ours)
    assert "POST /analyze 200" in written
    assert "GET (unknown path) 404" in written
    assert "Miller" not in written
    assert not [line for line in said.splitlines() if len(line) > 5 and line in written]


def test_an_error_that_nobody_foresaw_is_a_500_without_its_words(counter: Callable[..., Counter], caplog: pytest.LogCaptureFixture):
    told = counter()

    def broken():
        resident = told.load()

        class Broken(Resident):
            def tell(self, listeners: Sequence[Listener], joining: object = None, most: object = None) -> None:
                raise ValueError(f"cannot read {listeners[0].question.texts}")

        return changed(resident, Broken)

    with caplog.at_level(logging.INFO), serving(replace(told, load=broken)) as client:
        wait_until(client, "ready")
        assert refusal(ask(client, PAGE, prompt="Mrs Miller"))[0] == 500
    assert "ValueError at test_app.py:" in caplog.text
    assert "Miller" not in caplog.text


# -- a pointer that is none --------------------------------------------------------------------------------------------
def test_a_pointer_that_cannot_be_read_is_looked_at_again(
    counter: Callable[..., Counter], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(app, "FOLLOW_SECONDS", 0.02)
    looks, is_broken = [0], threading.Event()

    def newer() -> None:
        looks[0] += 1
        raise (TypeError, KeyError, OSError)[looks[0] % 3]

    def is_current() -> bool:
        if is_broken.is_set():
            raise KeyError("variant")
        return False

    with serving(counter(newer=newer, is_current=is_current)) as client:
        wait_until(client, "ready")
        is_broken.set()
        seen, end = looks[0], time.monotonic() + 20
        while looks[0] < seen + 4:
            assert time.monotonic() < end
            time.sleep(0.01)
        health = client.get("/health")
        assert (health.status_code, health.json()["is_current"]) == (200, False)  # as it was when it was read last
        assert ask(client, PAGE).status_code == 200
    assert "the pointer could not be read: TypeError at test_app.py" in caplog.text


# -- words that are none -----------------------------------------------------------------------------------------------
def test_half_a_character_is_refused(base: httpx2.Client):
    """JSON can say one, and no tokenizer reads it."""
    for content in ("a \ud800", [{"type": "text", "text": "\udfff"}]):
        asked = json.dumps({"model": "documents", "messages": [{"role": "user", "content": content}]})
        response = base.post("/v1/chat/completions", content=asked, headers={"content-type": "application/json"})
        assert response.status_code == 422, response.text
        assert "half a character: send it as UTF-8" in response.json()["error"]["message"]


NOT_UTF_8 = ["中文".encode("gbk"), "Größe".encode("latin-1"), b"\xff\xfe", "\ud800".encode("utf-8", "surrogatepass")]


@pytest.mark.parametrize("words", NOT_UTF_8, ids=["gbk", "latin-1", "bom", "surrogate"])
@pytest.mark.parametrize("path", ["/analyze", "/page/analyze"])
def test_words_that_are_not_utf_8_are_refused(base: httpx2.Client, words: bytes, path: str):
    body, headers = form([], {"prompt": "WORDS"})
    quoted = "".join(f"%{byte:02x}" for byte in words).encode()
    urlencoded = {"content-type": "application/x-www-form-urlencoded"}
    for content, told in (
        (body.replace(b"WORDS", words), headers), (b"prompt=" + quoted, urlencoded), (b"prompt=a+" + words, urlencoded),
    ):  # fmt: skip
        response = base.post(path, content=content, headers=told)
        assert response.status_code == 400
        assert "words are not UTF-8: send them as UTF-8" in response.text


def test_words_of_both_kinds_of_form_are_read_as_utf_8(base: httpx2.Client):
    said = [base.post("/analyze", data={"prompt": "列出 äöü + 1"}), base.post("/analyze", files={"prompt": (None, "列出 äöü + 1")})]
    raw = "prompt=列出+äöü+%2B+1".encode()
    said.append(base.post("/analyze", content=raw, headers={"content-type": "application/x-www-form-urlencoded"}))
    assert len({(one.json()["num_prompt_tokens"], one.json()["text"]) for one in said}) == 1


def test_what_a_file_is_called_is_not_looked_at(base: httpx2.Client):
    body, headers = form([("image", "NAME", PAGE)], {"prompt": PROMPT})
    assert base.post("/analyze", content=body.replace(b"NAME", b"\xff\xfe"), headers=headers).status_code == 200


@pytest.mark.parametrize(("codec", "status"), [("utf-8", 200), ("UTF8", 200), ("utf-7", 400), ("undefined", 400), ("idna", 400)])
def test_a_form_whose_words_are_written_otherwise_is_refused(base: httpx2.Client, codec: str, status: int):
    body, headers = form([("image", "a", PAGE)], {"prompt": "+2AA-"})
    headers = {"content-type": f"{headers['content-type']}; charset={codec}"}
    assert base.post("/analyze", content=body, headers=headers).status_code == status
