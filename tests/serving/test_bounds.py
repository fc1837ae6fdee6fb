"""How much a server takes on at a time: pixels, bytes, connections and guesses. If these passed wrongly, some requests at once would fill a
machine that each alone fits into, one slow file or client hold up all others, or a key be guessed.
"""

import asyncio
import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from types import SimpleNamespace

import httpx2
import numpy as np
import pytest
from starlette.types import Message

from medvl_lib.errors import MedVLError
from medvl_lib.sample_data.custom_reports import dicom
from medvl_lib.serving import guard, keys, resident, room, uploads, wire
from medvl_lib.serving.counter import Counter
from medvl_lib.serving.door import held
from medvl_lib.serving.guard import MAX_JSON_MARKS, bounded
from medvl_lib.serving.keys import MAX_WRONG, WINDOW_SECONDS, Keys, read_keys
from medvl_lib.serving.problems import Problem
from medvl_lib.serving.question import MAX_CHARACTERS, Question, assistant, user
from medvl_lib.serving.room import Room
from medvl_lib.serving.uploads import MAX_QUESTION_PIXELS, Size, cost, require_picture, require_together, size_of
from tests.serving.conftest import PAGE, serving
from tests.serving.files import pdf_of_text, run_length_dicom, runs
from tests.serving.hostile import encoded, png
from tests.serving.test_app import ask, refusal

KEY = "a secret of enough letters"


# -- the room ----------------------------------------------------------------------------------------------------------
def test_no_more_is_taken_at_a_time_than_there_is_and_who_came_first_is_first():
    shared, order = Room(10), list[str]()
    first = shared.take(7)

    def later(name: str, num_pixels: int) -> threading.Thread:
        thread = threading.Thread(target=lambda: (order.append(name) if (place := shared.take(num_pixels)) else None, place.leave()))
        thread.start()
        time.sleep(0.05)
        return thread

    threads = [later("large", 8), later("small", 1)]  # the small one would fit, and does not go before
    assert (order, shared.num_free) == ([], 0)
    first.leave()
    first.leave()  # once is enough
    for thread in threads:
        thread.join(10)
    assert order == ["large", "small"]
    assert shared.num_free == 10


def test_for_more_than_there_is_all_of_it_is_taken():
    shared = Room(10)
    with shared.take(1000):
        assert shared.num_free == 0
    assert shared.num_free == 10


def test_no_two_threads_hold_more_than_the_room_however_many_ask():
    shared, held_now, most, lock = Room(10), [0], [0], threading.Lock()

    def work(num_pixels: int) -> None:
        with shared.take(num_pixels):
            with lock:
                held_now[0] += num_pixels
                most[0] = max(most[0], held_now[0])
            time.sleep(0.001)
            with lock:
                held_now[0] -= num_pixels

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [1, 9, 5, 3, 7, 2, 10, 4] * 12))
    assert 7 < most[0] <= 10
    assert shared.num_free == 10


# -- a question of several pictures ------------------------------------------------------------------------------------
def test_what_decoding_the_largest_takes_counts_as_well():
    assert cost([]) == 0
    assert cost([Size(10, 10, 100), Size(20, 10, 200)]) == 100 + 200 + 200
    assert size_of(encoded((40, 30), "WEBP")).num_beside == 2 * 40 * 30
    assert size_of(dicom(np.zeros((30, 40), np.uint8), "1.2.3")) == Size(40, 30, 2000)
    for most, kind in ((uploads.MAX_PIXELS, 1), (uploads.MAX_WEBP_PIXELS, 2), (uploads.MAX_DICOM_PIXELS, 5 / 3)):
        assert most * (1 + kind) <= MAX_QUESTION_PIXELS <= room.MAX_PIXELS  # what may be asked alone finds room


def test_pictures_that_are_too_much_together_are_refused_with_what_was_found_and_may_be(base: httpx2.Client):
    large = [png(4000, 4000), png(3999, 4000)]
    for data in large:
        require_picture(data)
    status, detail = refusal(ask(base, *large))
    assert status == 413
    assert detail == (
        "2 pictures of 47996000 pixels together, what decoding the largest takes included: "
        "send fewer or smaller ones: at most 40000000 for one question"
    )
    url = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(data).decode()}"}} for data in large]
    said = base.post(
        "/v1/chat/completions",
        json={"model": "documents", "messages": [{"role": "user", "content": [*url, {"type": "text", "text": "?"}]}]},
    )
    assert (said.status_code, said.json()["error"]["message"]) == (413, detail)
    require_together([png(2480, 1654)] * 8)  # eight pages of A4 at 200 dpi
    require_together([png(2480, 3508)] * 3)  # three at 300


def test_a_batch_of_more_pixels_than_may_be_is_refused_before_its_next_file(base: httpx2.Client):
    large = png(4000, 4000)
    status, detail = refusal(base.post("/extract/batch", files=[("file", ("x", large, "image/png"))] * 10))
    assert (status, detail.split(":")[0]) == (413, "144000000 pixels in the first 9 pages of a batch")


def test_questions_that_are_too_much_together_are_asked_one_after_the_other(
    base: httpx2.Client, counter: Callable[..., Counter], monkeypatch: pytest.MonkeyPatch
):
    """What each of them is told is what it is told alone, and the room is free again."""
    size = size_of(PAGE)
    wanted = ask(base, PAGE).json()["text"]
    small = Room(cost([size, size]))
    monkeypatch.setattr(resident, "ROOM", small)
    loaded = counter().load()
    heard: list[object] = []

    class Hearer:
        is_gone = is_streamed = False
        question = Question.of("List every term with its value and unit.", [PAGE])

        def hear(self, piece: str) -> None: ...

        def end(self, said: object) -> None:
            heard.append(said)

        def put_off(self, error: Exception) -> None:
            raise error

    loaded.tell([Hearer() for _ in range(5)])
    assert sorted(said.batch_size for said in heard) == [2, 2, 3, 4, 5]  # two are read together; the others join them one by one
    assert {said.answer for said in heard} == {wanted}
    assert small.num_free == cost([size, size])
    with small.take(size.num_pixels):  # somebody else is decoding: fewer are read together, and nobody waits for him
        loaded.tell([Hearer() for _ in range(2)])
    assert sorted(said.batch_size for said in heard[5:]) == [1, 2]


def test_a_picture_that_fails_leaves_its_place_in_the_room(base: httpx2.Client):
    free = room.ROOM.num_free
    assert refusal(ask(base, PAGE[: len(PAGE) // 2]))[0] == 415
    assert room.ROOM.num_free == free == room.MAX_PIXELS


def test_a_dicom_file_is_not_decoded_to_know_its_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pydicom.pixels.pixel_array", lambda *_, **__: pytest.fail("it was decoded"))
    assert size_of(run_length_dicom((300, 200), [runs(60_000, 7)])) == Size(300, 200, 100_000)


def test_turns_of_more_characters_than_any_line_reads_are_refused_before_they_are_looked_through():
    many = [user("x" * 8000), assistant("y" * 8000)] * 2
    Question(turns=(*many[:3],))
    with pytest.raises(Problem, match="turns of") as refused:
        Question(turns=(*many, user("z")))
    assert refused.value.status == 422
    assert str(MAX_CHARACTERS) in refused.value.detail


# -- one slow file -----------------------------------------------------------------------------------------------------
def test_a_slow_file_holds_up_neither_others_nor_health(base: httpx2.Client, monkeypatch: pytest.MonkeyPatch):
    """A PDF that takes its time, and as many others behind it as there are threads for everything else."""
    may_go, is_drawn = threading.Event(), threading.Semaphore(0)

    def slow(data: bytes, most_pages: int) -> tuple[bytes, ...]:
        is_drawn.release()
        may_go.wait(60)
        return (PAGE,)

    monkeypatch.setattr(uploads, "_drawn", slow)
    document = pdf_of_text("x", (200, 200))
    file = {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{base64.b64encode(document).decode()}"}}
    asked = {"model": "documents", "messages": [{"role": "user", "content": [file, {"type": "text", "text": "What?"}]}]}
    with ThreadPoolExecutor(30) as pool:
        chats = [pool.submit(base.post, "/v1/chat/completions", json=asked) for _ in range(12)]
        forms = [pool.submit(ask, base, document) for _ in range(12)]
        try:
            assert is_drawn.acquire(timeout=30)
            assert base.get("/health").json()["status"] == "ready"
            assert ask(base, PAGE).status_code == 200
            assert base.get("/page/extract").status_code == 200
            url = f"data:image/png;base64,{base64.b64encode(PAGE).decode()}"
            shown = {**asked, "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}
            assert base.post("/v1/chat/completions", json=shown).status_code in (200, 422)
            assert not any(one.done() for one in (*chats, *forms))
        finally:
            may_go.set()
        assert {one.result().status_code for one in (*chats, *forms)} == {200}


# -- what is sent ------------------------------------------------------------------------------------------------------
def received(*chunks: bytes, **more: object) -> list[int]:
    """What becomes of a body that comes in these chunks: 200, or the status of its refusal."""

    async def story() -> int:
        left = list(chunks)

        async def receive() -> Message:
            body = left.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(left)}

        receiving = bounded(receive, 1 << 20, **more)
        try:
            for _ in chunks:
                await receiving()
        except guard.HTTPException as error:
            return error.status_code
        return 200

    return [asyncio.run(story())]


def test_json_of_too_many_parts_is_refused_before_it_is_read(base: httpx2.Client):
    parts = b"{}," * MAX_JSON_MARKS
    assert received(parts[: len(parts) // 3], parts, has_marks=True) == [413]
    assert received(parts[:1000], parts[:1000], has_marks=True) == [200]
    assert received(parts, has_marks=False) == [200]
    response = base.post("/v1/chat/completions", content=b"[" + parts + b"0]", headers={"content-type": "application/json"})
    assert response.status_code == 413
    assert f"more than {MAX_JSON_MARKS} parts" in response.json()["error"]["message"]


def test_a_body_that_comes_drop_by_drop_is_refused(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(guard, "time", SimpleNamespace(monotonic=lambda: now.__setitem__(0, now[0] + 3) or now[0]))
    assert received(*[b"x"] * 9, has_marks=False) == [408]
    assert received(*[b"x" * 50_000] * 9, has_marks=False) == [200]


@pytest.mark.parametrize("path", ["/page/login", "/page/logout", "/page/review"])
def test_a_form_without_files_is_small(base: httpx2.Client, path: str):
    """Who has no key can send this one: it must not fill what all requests have together."""
    assert base.post(path, content=b"a" * 200_000, headers={"content-type": "multipart/form-data; boundary=b"}).status_code == 413
    chunked = {"type": "http", "method": "POST", "path": path, "headers": [(b"content-type", b"multipart/form-data")]}
    assert held(chunked) == guard.MAX_WORDS_BYTES


# -- connections -------------------------------------------------------------------------------------------------------
@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch, base: httpx2.Client) -> Iterator[tuple[str, int]]:
    """The address of a server that waits for nobody."""
    monkeypatch.setattr(wire, "CLIENT_SECONDS", 0.4)
    return base.base_url.host, base.base_url.port or 80


def ended(connection: socket.socket) -> bool:
    """Whether the other side has gone within five seconds; whatever it said before is read."""
    connection.settimeout(5)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


@pytest.mark.parametrize(
    "begun", [b"", b"GET /hea", b"GET /health HTTP/1.1\r\nhost: x\r\n", b"GET /health HTTP/1.1\r\nx: " + b"a" * 30_000]
)
def test_a_head_that_never_ends_is_not_waited_for(hasty: tuple[str, int], begun: bytes):
    with socket.create_connection(hasty) as connection:
        connection.sendall(begun)
        started = time.monotonic()
        assert ended(connection)
        assert 0.2 < time.monotonic() - started < 4


def test_a_head_that_comes_drop_by_drop_is_not_waited_for(hasty: tuple[str, int]):
    with socket.create_connection(hasty) as connection:
        started = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - started < 10:
                connection.sendall(b"x")
                time.sleep(0.1)
        assert time.monotonic() - started < 8


def test_a_second_request_that_never_ends_is_not_waited_for(hasty: tuple[str, int]):
    head = f"GET /v1/models HTTP/1.1\r\nhost: {hasty[0]}:{hasty[1]}\r\n".encode()
    with socket.create_connection(hasty) as connection:
        connection.sendall(head + b"\r\n" + head)
        assert ended(connection)


def test_a_head_larger_than_any_is_refused_and_not_kept(base: httpx2.Client):
    with socket.create_connection((base.base_url.host, base.base_url.port or 80)) as connection:
        sent = 0
        try:
            connection.sendall(b"GET /health HTTP/1.1\r\nx: ")
            for _ in range(200):
                connection.sendall(b"a" * 10_000)
                sent += 10_000
        except OSError:
            pass
        connection.settimeout(5)
        try:
            said = connection.recv(100)
        except OSError:
            said = b""
    assert sent < 2_000_000 or said.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("num_bytes, status", [(30_000, 200), (50_000, 400), (70_000, 400), (1_000_000, 400)])
def test_a_head_that_comes_at_once_is_bounded_too(base: httpx2.Client, num_bytes: int, status: int):
    address = (base.base_url.host, base.base_url.port or 80)
    with socket.create_connection(address) as connection, suppress(OSError):
        connection.sendall(f"GET /health HTTP/1.1\r\nhost: {address[0]}:{address[1]}\r\nx: {'a' * num_bytes}\r\n\r\n".encode())
        connection.settimeout(5)
        assert connection.recv(100).startswith(f"HTTP/1.1 {status} ".encode())
    assert base.get("/health").status_code == 200


def test_who_does_not_read_what_was_answered_is_let_go_and_who_reads_slowly_is_not():
    class Transport(asyncio.Transport):
        num_unsent, is_aborted = 100, False

        def get_write_buffer_size(self) -> int:
            return self.num_unsent

        def abort(self) -> None:
            self.is_aborted = True

    async def story() -> None:
        for is_read, is_gone in ((True, False), (False, True)):
            one, transport = wire.Wire.__new__(wire.Wire), Transport()
            one.loop, one.transport = asyncio.get_running_loop(), transport
            one._start()
            transport.num_unsent -= 10 * is_read
            one._ring()
            assert transport.is_aborted == is_gone
            assert (one._clock is None) == is_gone

    asyncio.run(story())


def test_more_connections_than_a_process_can_have_are_not_taken(base: httpx2.Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wire, "MAX_CONNECTIONS", 20)
    address = (base.base_url.host, base.base_url.port or 80)
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.create_connection(address)) for _ in range(30)]
        assert sum(map(_is_gone, taken)) >= 10
    monkeypatch.undo()
    assert base.get("/health").status_code == 200


def _is_gone(connection: socket.socket) -> bool:
    connection.settimeout(0.3)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


# -- guesses -----------------------------------------------------------------------------------------------------------
def test_an_address_that_guesses_is_heard_again_within_a_minute_and_others_always():
    now = [0.0]
    mine = Keys({"": KEY}, clock=lambda: now[0])
    for place in range(MAX_WRONG):
        now[0] = place * 2.0
        assert mine.holder("a wrong one", "192.0.2.1") is None
    with pytest.raises(Problem) as refused:
        mine.holder(KEY, "192.0.2.1")  # not even the right one: else a guess would be told from it
    assert (refused.value.status, refused.value.retry_after_seconds) == (429, 42)
    assert mine.holder(KEY, "192.0.2.2") == ""
    for _ in range(100):  # who goes on makes it no longer
        with pytest.raises(Problem):
            mine.holder("a wrong one", "192.0.2.1")
    now[0] = WINDOW_SECONDS
    assert mine.holder(KEY, "192.0.2.1") == ""


def test_a_network_is_one_address_and_no_flood_of_addresses_is_remembered(monkeypatch: pytest.MonkeyPatch):
    mine = Keys({"": KEY})
    for number in range(MAX_WRONG):
        mine.holder("a wrong one", f"2001:db8::{number:x}")
    with pytest.raises(Problem):
        mine.holder(KEY, "2001:db8::ffff")
    monkeypatch.setattr(keys, "MOST_ADDRESSES", 5)
    for number in range(20):
        mine.holder("a wrong one", f"192.0.2.{number}")
    assert len(mine._wrong) == 5


@pytest.fixture
def locked(counter: Callable[..., Counter]) -> Iterator[httpx2.Client]:
    with serving(counter(keys=Keys({"": KEY, "Anna Adler": KEY[::-1]}))) as client:
        yield client


def test_guesses_at_the_page_and_at_the_endpoints_are_counted_together(locked: httpx2.Client):
    shown = locked.post("/page/login", data={"key": KEY}).headers["set-cookie"].partition(";")[0]
    for number in range(MAX_WRONG):
        if number % 2:
            assert locked.post("/page/login", data={"key": f"guess {number}"}).status_code == 401
        else:
            assert locked.get("/benchmark", headers={"authorization": f"Bearer guess {number}"}).status_code == 401
    refused = locked.post("/page/login", data={"key": KEY})
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= WINDOW_SECONDS
    assert "10 wrong keys from this address" in refused.text
    assert "set-cookie" not in refused.headers
    response = locked.get("/openapi.json", headers={"authorization": f"Bearer {KEY}"})
    assert refusal(response)[0] == 429
    assert 0 < int(response.headers["retry-after"]) <= WINDOW_SECONDS
    assert locked.get("/benchmark").status_code == 401  # who shows no key does not guess
    assert locked.get("/page/extract", headers={"cookie": shown}).status_code == 200  # who is in stays in
    assert locked.get("/health").status_code in (200, 503)


@pytest.mark.parametrize("typed", ["J\u00fcrgen Maier", "Ju\u0308rgen Maier", " j\u00fcrgen \t maier ", "\uff2a\u00fcrgen Maier"])
def test_a_name_is_taken_however_it_is_written(typed: str):
    """The rating's name is brought into one form later: another form of it here would be its holder's there."""
    mine = Keys({"": KEY, "J\u00fcrgen Maier": KEY[::-1]})
    assert mine.is_taken(typed)
    assert not any(map(mine.is_taken, ("", " ", "Jurgen Maier", "Maier")))


def test_the_password_of_a_proxy_is_no_guess_at_a_key(locked: httpx2.Client):
    shown = locked.post("/page/login", data={"key": KEY}).headers["set-cookie"].partition(";")[0]
    basic = {"authorization": "Basic bWVkdmw6bWVkdmw="}
    for _ in range(2 * MAX_WRONG):
        assert locked.get("/page/extract", headers={"cookie": shown, **basic}).status_code == 200
        assert locked.get("/benchmark", headers=basic).status_code == 401
    assert locked.get("/openapi.json", headers={"authorization": f"bearer {KEY}"}).status_code == 200
    for number in range(MAX_WRONG):
        assert locked.get("/page/extract", headers={"cookie": shown, "authorization": f"Bearer {number}"}).status_code == 200
    assert locked.get("/openapi.json", headers={"authorization": f"Bearer {KEY}"}).status_code == 200


def test_what_a_proxy_of_this_machine_says_is_who_guesses(locked: httpx2.Client):
    for _ in range(MAX_WRONG):
        locked.get("/benchmark", headers={"authorization": "Bearer no", "x-forwarded-for": "198.51.100.7"})
    asked = {"authorization": f"Bearer {KEY}"}
    assert locked.get("/openapi.json", headers={**asked, "x-forwarded-for": "198.51.100.7"}).status_code == 429
    assert locked.get("/openapi.json", headers={**asked, "x-forwarded-for": "198.51.100.8"}).status_code == 200


def test_keys_with_names_are_read_and_what_is_none_is_refused():
    where = ("ONE", "MANY")
    assert read_keys(None, " ", where=where) is None
    both = read_keys("k" * 16, "Anna  Adler: " + "a" * 16 + " ,baker:" + "b" * 20 + ",", where=where)
    assert both is not None
    assert [both.holder(key, "") for key in ("k" * 16, "a" * 16, "b" * 20, "c" * 16, "")] == ["", "Anna Adler", "baker", None, None]
    for shared, named, found in (
        ("short", None, "a key of 5 characters (ONE)"),
        (None, "adler:short", "a key of 5 characters (MANY, adler)"),
        (None, "k" * 30, "an entry of 30 characters without a colon"),
        (None, ":" + "k" * 30, "a name of 0 characters"),
        (None, "ad\tler:" + "k" * 30 + ",ad ler:" + "j" * 30, "stands twice"),
        (None, "adler:" + "k" * 30 + ",baker:" + "k" * 30, "stands twice"),
        ("ü" * 20, None, "a key that no header can hold"),
        (None, "a\0b:" + "k" * 30, "a name that cannot be printed"),
    ):
        with pytest.raises(MedVLError) as refused:
            read_keys(shared, named, where=where)
        assert found in f"{refused.value.found} ({refused.value.where})"
        assert "kkkk" not in str(refused.value)


# -- other sites -------------------------------------------------------------------------------------------------------
def test_no_page_of_another_site_reads_an_answer_or_embeds_one(base: httpx2.Client):
    for path in ("/health", "/v1/models", "/openapi.json", "/docs", "/nowhere", "/page/extract", "/page/page.js"):
        told = base.get(path).headers
        assert (told["x-content-type-options"], told["cross-origin-resource-policy"]) == ("nosniff", "same-origin"), path
        assert "no-store" in told["cache-control"], path
        assert "access-control-allow-origin" not in told
    embedded = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}  # a browser says no origin there
    assert base.get("/v1/models", headers=embedded).status_code == 403
    assert base.get("/page/extract", headers={**embedded, "sec-fetch-mode": "navigate"}).status_code == 200  # somebody follows a link


def test_a_method_that_is_a_word_is_not_written_down(base: httpx2.Client, caplog: pytest.LogCaptureFixture):
    caplog.set_level("DEBUG")
    assert base.request("MILLER", "/v1/models").status_code == 405
    time.sleep(0.1)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("medvl_lib", "uvicorn"))]
    assert "(unknown method) /v1/models 405" in "\n".join(ours)
    assert "MILLER" not in "\n".join(ours)


def test_what_is_no_http_and_who_wants_a_websocket_leave_nothing_in_the_log_but_words_of_ours(
    base: httpx2.Client, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("DEBUG")
    address = (base.base_url.host, base.base_url.port or 80)
    for begun in (b"Mrs Miller\r\n\r\n", b"\x16\x03\x01 Miller", b"GET /Miller HTTP/1.1\r\n\r\n"):
        with socket.create_connection(address) as connection:
            connection.sendall(begun)
            assert ended(connection)
    upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-key": "eA==", "sec-websocket-version": "13"}
    assert base.get("/v1/models", headers=upgrade).status_code == 200
    ours = [record for record in caplog.records if record.name.startswith(("medvl_lib", "uvicorn", "asyncio"))]
    written = "\n".join(record.getMessage() for record in ours)
    assert "Invalid HTTP request received." in written
    assert not [word for word in ("Miller", "WebSocket", "Fatal") if word in written], written


def test_two_requests_in_one_are_read_as_one_or_refused(base: httpx2.Client):
    """A body that says two lengths, or a length and chunks: what a proxy reads otherwise is a request that it never saw."""
    host = f"{base.base_url.host}:{base.base_url.port}"
    hidden = f"GET /openapi.json HTTP/1.1\r\nhost: {host}\r\n\r\n"
    for lines in (
        f"content-length: 5\r\ncontent-length: {len(hidden)}",
        f"content-length: {len(hidden)}\r\ntransfer-encoding: chunked, identity",
        "transfer-encoding: xchunked",
        f"content-length: +{len(hidden)}",
        f"content-length : {len(hidden)}",
    ):
        with socket.create_connection((base.base_url.host, base.base_url.port or 80)) as connection:
            connection.sendall(f"POST /v1/models HTTP/1.1\r\nhost: {host}\r\n{lines}\r\n\r\n{hidden}".encode())
            connection.settimeout(2)
            said = b""
            try:
                while part := connection.recv(65536):
                    said += part
            except OSError:
                pass
        assert said.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501")), (lines, said[:60])
        assert b'"openapi"' not in said


def test_json_is_text_for_the_reader_of_chats(base: httpx2.Client):
    """A string of brackets is a question: marks are counted, and few of them."""
    asked = {"model": "documents", "messages": [{"role": "user", "content": json.dumps([[]] * 500)}]}
    assert base.post("/v1/chat/completions", json=asked).status_code == 200
