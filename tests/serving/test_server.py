"""``medvl serve`` as a process. If these passed wrongly, a server could be reached by strangers, write a patient's page to disk, or serve
something that was never judged.
"""

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import openai
import pytest

from medvl_lib.errors import InputRefused, MedVLError
from medvl_lib.images import ImageStore
from medvl_lib.serving.running import keys_for, listen
from medvl_lib.serving.served import is_current, served_model
from tests.serving.conftest import PAGE, Project, wait_until
from tests.serving.files import pdf
from tests.serving.test_app import PROMPT, as_evaluated, ask
from tests.serving.test_endpoints import SCAN, publish_two_rows, upload
from tests.serving.test_openai_client import shown

EVERYWHERE = "0.0.0.0"  # noqa: S104 (a test that it is refused)
PAIR_PROMPT = "List every term with its value and unit."  # of every pair in torch_fixtures


def write_nothing(process: subprocess.Popen[str]) -> None:
    """From now on nothing that the process writes to a file succeeds."""
    if not hasattr(resource, "prlimit"):
        pytest.skip("only Linux can bound what another process writes")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, 0))


@contextmanager
def server(project: Project, *arguments: str, **environment: str) -> Iterator[tuple[httpx2.Client, str, subprocess.Popen[str]]]:
    """A server process of what nobody has judged, a client of it, and what it said first."""
    process = subprocess.Popen(
        [sys.executable, "-m", "medvl_lib.cli", "serve", *arguments, "--port", "0", "--unchecked"], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "MEDVL_SETTINGS": str(project.settings), **environment},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        address = re.search(r"http://\S+?:\d+", said)
        assert address is not None, said + (process.stderr.read() if process.stderr else "")
        with httpx2.Client(base_url=address[0], timeout=120, trust_env=False) as client:
            yield client, said, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.mark.slow
def test_a_promoted_adapter_answers_as_it_was_evaluated_and_nothing_is_written_to_disk(project: Project):
    wanted = as_evaluated(project, "adapter")
    served = project.promote("adapter")
    try:
        with server(project, "documents") as (client, said, process):
            assert said.startswith(f"documents serves adapter (nf4_model {served.weights_fingerprint}, adapter")
            health = wait_until(client, "ready")
            assert (health["data_version"], health["is_current"]) == (served.data_version, True)
            write_nothing(process)
            store = ImageStore(project.workspace.images)
            images = {item.pair_id: store.read(item.image_ids[0]) for item in project.conversations}
            said_now = {pair_id: ask(client, data, prompt=PAIR_PROMPT).json()["text"] for pair_id, data in images.items()}
            assert said_now == wanted
            large = PAGE + bytes(3 << 20)  # behind the end of a PNG: more than Starlette keeps in memory by itself
            assert ask(client, large).status_code == 200
            files = [("image", ("page.png", large, "image/png"))]
            of_the_page = client.post("/page/analyze", data={"prompt": PAIR_PROMPT, "sample": ""}, files=files)
            assert (of_the_page.status_code, "No examples" in of_the_page.text) == (200, True)
            project.demote()
            assert client.get("/health").json()["is_current"] is False
        assert process.returncode in (0, -signal.SIGTERM)
        assert process.stderr is not None
        log = process.stderr.read()
    finally:
        project.demote()
    assert log.count("POST /analyze 200") == len(images) + 1
    assert "POST /page/analyze 200" in log
    assert "Traceback" not in log


@pytest.mark.slow
def test_where_nothing_was_promoted_the_process_serves_base_and_says_so(project: Project):
    with server(project) as (client, said, _):
        assert said.startswith("documents serves the base model as it is: nothing was promoted yet; it was not compared")
        assert wait_until(client, "ready")["is_promoted"] is False
        assert ask(client, PAGE, prompt=PROMPT).status_code == 200
        assert client.get("/benchmark").status_code == 404  # nothing was published yet


@pytest.mark.slow
def test_the_five_of_the_requirement_documents_and_the_others_pass_against_a_process(project: Project):
    """Their fifth wants 400 for what is no picture; 415 says which kind of bad request it is."""
    publish_two_rows(project.workspace)
    served = project.promote("adapter")
    try:
        with server(project, "documents") as (client, _, __):
            health = wait_until(client, "ready")
            assert (health["variant"], health["adapter"], health["decision"]["fingerprint"]) == (
                "adapter", {"step": served.adapter_step, "fingerprint": served.adapter_fingerprint}, served.decision,
            )  # fmt: skip
            assert health["memory"]["resident_bytes"] > 100_000_000
            extracted = upload(client, "/extract", PAGE, field="file")
            assert extracted.status_code == 200
            for fact in extracted.json()["facts"]:
                assert extracted.json()["text"][fact["value_span"]["start"] : fact["value_span"]["end"]] == fact["value"]
            assert upload(client, "/analyze", PAGE, field="file", prompt=PROMPT).json()["variant"] == "adapter"
            assert [row["mean"] for row in client.get("/benchmark").json()["rows"]] == [0.5, 0.9]
            assert upload(client, "/extract", b"not a picture", field="file").status_code == 415
            told = upload(client, "/extract/batch", pdf([SCAN, SCAN]), PAGE, field="file", by="page").json()["answers"]
            assert [(one["file"], one["page"], one["problem"]) for one in told] == [(1, 1, None), (1, 2, None), (2, 1, None)]
            assert upload(client, "/describe", PAGE, language="zh").status_code == 200
            assert upload(client, "/similar", PAGE).status_code == 404
            with openai.OpenAI(base_url=f"{str(client.base_url).rstrip('/')}/v1", api_key="none", max_retries=0) as openai_client:
                whole = openai_client.chat.completions.create(model="documents", messages=shown(PAGE))
                streamed = openai_client.chat.completions.create(model="documents", messages=shown(PAGE), stream=True)
                said = "".join(piece.choices[0].delta.content or "" for piece in streamed if piece.choices)
            assert said == whole.choices[0].message.content == ask(client, PAGE, prompt=PROMPT).json()["text"]
    finally:
        project.demote()
        project.workspace.store.unlink()


def _refused(project: Project, *arguments: str, **environment: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "medvl_lib.cli", "serve", *arguments], capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "MEDVL_SETTINGS": str(project.settings), **environment},
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (2, ""), ran.stderr
    return ran.stderr


@pytest.mark.slow
def test_an_unknown_line_an_address_without_a_key_and_weights_that_changed_are_refused(project: Project):
    assert "found: the line 'document'" in _refused(project, "document")
    assert "set MEDVL_API_KEY" in _refused(project, "--host", EVERYWHERE)
    served = project.promote("adapter")
    weights = project.adapter.directory / "adapter_config.json"
    before = weights.read_bytes()
    try:
        weights.write_bytes(before + b" ")
        said = _refused(project)
        assert "adapter_config.json has" in said
        assert served.adapter_fingerprint in said
    finally:
        weights.write_bytes(before)
        project.demote()


# -- who may ask -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_on_the_loopback_interface_no_key_is_needed(host: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MEDVL_API_KEY", raising=False)
    assert keys_for(host) is None


def test_elsewhere_only_with_a_key_that_cannot_be_guessed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MEDVL_API_KEY", "")
    with pytest.raises(MedVLError, match="which other machines reach, and no key"):
        keys_for(EVERYWHERE)
    monkeypatch.setenv("MEDVL_API_KEY", "short")
    with pytest.raises(MedVLError, match="a key of 5 characters"):
        keys_for(EVERYWHERE)
    monkeypatch.setenv("MEDVL_API_KEY", "long enough for a secret")
    for host in (EVERYWHERE, "127.0.0.1"):
        keys = keys_for(host)
        assert keys is not None
        assert keys.holder("long enough for a secret", "192.0.2.1") == ""
        assert keys.holder("long enough for a secre", "192.0.2.1") is None


def test_a_port_that_is_taken_is_refused_with_its_cure():
    with listen("127.0.0.1", 0) as taken, pytest.raises(MedVLError) as refused:
        listen("127.0.0.1", taken.getsockname()[1])
    assert "take another --port" in refused.value.do


# -- what is served ----------------------------------------------------------------------------------------------------
def test_a_pointer_whose_weights_are_not_what_was_evaluated_is_refused(project: Project):
    from dataclasses import replace

    from medvl_lib.pointer import move_pointer

    served = project.promote("adapter")
    try:
        move_pointer(project.workspace, replace(served, data_version="0123456789abcdef"))
        with pytest.raises(InputRefused, match="where 0123456789abcdef was evaluated"):
            served_model(project.workspace, project.line)
        move_pointer(project.workspace, served)
        model = served_model(project.workspace, project.line)
        assert is_current(project.workspace, model)
        project.promote("nf4")
        assert not is_current(project.workspace, model)
    finally:
        project.demote()
