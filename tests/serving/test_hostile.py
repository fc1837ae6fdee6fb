"""Five hundred hostile requests to a server process. If this passed wrongly, one upload could take a ward's server down, fill its memory or
its disk, or read its files.
"""

import base64
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path

import numpy as np
import psutil
import pytest

from medvl_lib.sample_data.custom_reports import dicom
from tests.serving.conftest import PAGE, Project, wait_until
from tests.serving.files import page, pdf_of_text, tiff
from tests.serving.hostile import KINDS, Hostile, cases, chat, encoded, form, upload
from tests.serving.test_app import ask
from tests.serving.test_server import server, write_nothing

SEED = 10
MAX_SECONDS = 10.0
MAX_BYTES = 300_000_000  # above what the server holds when it idles
SAMPLE_SECONDS = 0.02


def sent(address: tuple[str, int], case: Hostile, seconds: float = MAX_SECONDS) -> tuple[int, float]:
    """The status that a request got, and after how many seconds; written to the socket as it is, which no honest client would do."""
    headers = {"host": f"{address[0]}:{address[1]}", "content-length": str(len(case.body)), **case.headers, "connection": "close"}
    head = "".join([f"{case.method} {case.path} HTTP/1.1\r\n", *(f"{name}: {value}\r\n" for name, value in headers.items()), "\r\n"])
    started = time.monotonic()
    with socket.create_connection(address, timeout=seconds) as connection:
        with suppress(ConnectionResetError, BrokenPipeError):  # it has seen enough: what it said before stands in the buffer
            connection.sendall(head.encode("utf-8", "surrogatepass") + case.body)
        response = HTTPResponse(connection)
        response.begin()
        response.read()
        return response.status, time.monotonic() - started


@contextmanager
def watched(process: psutil.Process) -> Iterator[list[int]]:
    """The most memory, in bytes, that a process and its children took meanwhile."""
    most, is_over = [0], threading.Event()

    def watch() -> None:
        while not is_over.wait(SAMPLE_SECONDS):
            most[0] = max(most[0], held(process))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        is_over.set()
        thread.join()


def held(process: psutil.Process) -> int:
    total = process.memory_info().rss
    for child in process.children(recursive=True):
        try:
            total += child.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def listing(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


@pytest.mark.slow
def test_there_are_five_hundred_and_no_two_alike():
    found = list(cases(SEED))
    assert len(found) >= 500
    assert len({(case.method, case.path, case.body, *sorted(case.headers.items())) for case in found}) >= 500
    assert all(200 <= status < 500 for case in found for status in case.allowed)
    assert sum(len(case.allowed) < 4 for case in found) > 250  # most are said exactly
    assert {kind.__name__ for kind in KINDS} >= {"random_bytes", "damaged", "bombs", "polyglots", "names", "chats", "together"}


@pytest.mark.soak
def test_none_of_them_takes_the_server_down(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    before = {root: listing(root) for root in (project.workspace.root, Path.cwd())}
    with server(project, TMPDIR=str(temporary), OMP_NUM_THREADS="2") as (client, _, process):
        wait_until(client, "ready")
        own = psutil.Process(process.pid)
        address = (client.base_url.host, client.base_url.port or 80)
        for _ in range(3):  # what is loaded with the first answer
            wanted = ask(client, PAGE).json()["text"]
            sent(address, chat("warm", {"model": "documents", "messages": [{"role": "user", "content": "What?"}]}, (200,)))
            for data in (encoded((1000, 1000), "PNG"), dicom(np.zeros((500, 500), np.uint8), "1.2.3"), pdf_of_text("x", (200, 200))):
                sent(address, upload("warm", data, (200,)))
        write_nothing(process)
        idle, wrong, slowest, statuses, worst = held(own), [], ("", 0.0), Counter[int](), ("", 0)
        for case in cases(SEED):
            with watched(own) as most:
                try:
                    status, seconds = sent(address, case)
                except (TimeoutError, HTTPException, OSError) as error:
                    wrong.append(f"{case.name}: {type(error).__name__}")
                    continue
            statuses[status] += 1
            slowest, worst = (
                max(slowest, (case.name, seconds), key=lambda one: one[1]),
                max(worst, (case.name, most[0]), key=lambda one: one[1]),
            )
            if status not in case.allowed or seconds > MAX_SECONDS:
                wrong.append(f"{case.name}: {status} after {seconds:.1f} s, {case.allowed} allowed")
            if most[0] - idle > MAX_BYTES:
                wrong.append(f"{case.name}: {(most[0] - idle) / 1e6:.0f} MB above idle")
        assert ask(client, PAGE).json()["text"] == wanted  # and it answers as before
        most_bytes = f"{(worst[1] - idle) / 1e6:.0f} MB above {idle / 1e6:.0f} ({worst[0]})"
        with capsys.disabled():
            sys.stdout.write(f"\n{dict(statuses)}; slowest {slowest[1]:.1f} s ({slowest[0]}); most {most_bytes}\n")
    assert not wrong, "\n".join(wrong)
    assert not [status for status in statuses if status >= 500]
    assert not listing(temporary)
    assert {root: listing(root) for root in before} == before
    assert process.stderr is not None
    log = process.stderr.read()
    assert "Traceback" not in log
    assert not [name for name in ("passwd", "alert(1)", "evil.example", "What?") if name in log]


@pytest.mark.soak
def test_large_requests_at_once_take_no_more_than_one(project: Project, capsys: pytest.CaptureFixture[str]):
    """Each is as large as it may be; what is decoded of all of them together finds room in what one may take, and health answers."""
    large = {
        "PNG": encoded((4000, 4000), "PNG", "RGBA"), "JPEG": encoded((4000, 4000), "JPEG"), "WEBP": encoded((2800, 2800), "WEBP"),
        "DICOM": dicom(np.zeros((3464, 3464), np.uint16), "1.2.3", BitsAllocated=16, BitsStored=12, HighBit=11),
        "PDF": pdf_of_text("x", (612, 792)), "TIFF": tiff([page((1, 2, 3), (2000, 2000))] * 3),
    }  # fmt: skip
    cases = [upload(kind, data, (200, 429), path) for path in ("/analyze", "/extract") for kind, data in large.items()]
    several, headers = form([("image", "a", encoded((2800, 2800), "PNG"))] * 4, {"prompt": "What?"})
    cases += [Hostile(name="four", allowed=(200, 429), body=several, headers=headers)] * 3
    shown = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(large['PNG']).decode()}"}}
    asked = {"model": "documents", "messages": [{"role": "user", "content": [shown, {"type": "text", "text": "?"}]}]}
    cases += [chat("chat", asked, (200, 429))] * 3
    with server(project, OMP_NUM_THREADS="2") as (client, _, process):
        wait_until(client, "ready")
        own, address = psutil.Process(process.pid), (client.base_url.host, client.base_url.port or 80)
        for kind in ("PNG", "PDF", "DICOM"):
            assert sent(address, next(case for case in cases if case.name == kind), seconds=120)[0] == 200
        idle, waits, is_over = held(own), list[float](), threading.Event()

        def look() -> None:
            while not is_over.wait(0.2):
                started = time.monotonic()
                assert client.get("/health").status_code == 200
                waits.append(time.monotonic() - started)

        with watched(own) as most, ThreadPoolExecutor(len(cases) + 1) as pool:
            looking = pool.submit(look)
            statuses = list(pool.map(lambda case: sent(address, case, seconds=300)[0], cases))
            is_over.set()
            looking.result()
        with capsys.disabled():
            said = f"{dict(Counter(statuses))}; {(most[0] - idle) / 1e6:.0f} MB above idle; health {max(waits):.2f} s"
            sys.stdout.write(f"\n{len(cases)} large requests at once: {said}\n")
        assert set(statuses) <= {200, 429}
        assert statuses.count(200) >= len(large)
        assert most[0] - idle <= MAX_BYTES + sum(len(case.body) for case in cases)  # beside what is decoded there is what was sent
        assert max(waits) < 1


@pytest.mark.slow
def test_who_falls_silent_is_sent_away(project: Project):
    with server(project) as (client, _, __):
        wait_until(client, "ready")
        address = (client.base_url.host, client.base_url.port or 80)
        started = time.monotonic()
        with socket.create_connection(address, timeout=MAX_SECONDS) as connection:
            kind = "multipart/form-data; boundary=b"
            head = f"POST /analyze HTTP/1.1\r\nhost: {address[0]}\r\ncontent-type: {kind}\r\ncontent-length: 999\r\n\r\n--b"
            connection.sendall(head.encode())
            response = HTTPResponse(connection)
            response.begin()
            assert response.status == 408
        assert 5 < time.monotonic() - started < MAX_SECONDS
        assert ask(client, PAGE).status_code == 200


@pytest.mark.slow
def test_a_websocket_gets_past_no_guard(project: Project):
    """Nothing here speaks it: an upgrade is answered as the plain request that it also is, or refused."""
    with server(project, MEDVL_API_KEY="a secret of enough letters") as (client, _, __):
        headers = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-key": "eA==", "sec-websocket-version": "13"}
        for path in ("/benchmark", "/v1/chat/completions"):
            assert client.get(path, headers=headers).status_code in (400, 401, 403)
