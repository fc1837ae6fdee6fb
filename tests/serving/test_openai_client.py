"""OpenAI's own client against a real server. If these passed wrongly, existing programs would get another answer than the judged one, or an
error that nobody can read.
"""

import base64
from collections.abc import Callable, Iterator

import httpx2
import openai
import pytest

from medvl_lib.sample_data.captioned_pictures import draw_picture
from medvl_lib.serving.counter import Counter
from medvl_lib.serving.keys import Keys
from tests.serving.conftest import PAGE, serving, wait_until
from tests.serving.files import pdf
from tests.serving.test_app import PROMPT, ask
from tests.serving.test_endpoints import SCAN


def of(base: httpx2.Client, key: str = "no key") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{base.base_url}/v1".replace("//v1", "/v1"), api_key=key, max_retries=0, timeout=120)


@pytest.fixture
def client(base: httpx2.Client) -> Iterator[openai.OpenAI]:
    with of(base) as made:
        yield made


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def shown(data: bytes, text: str = PROMPT) -> list[dict[str, object]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": data_url(data)}}, {"type": "text", "text": text}]}]


def test_the_served_line_is_the_one_model(client: openai.OpenAI):
    assert [model.id for model in client.models.list()] == ["documents"]


def test_the_served_line_is_retrieved_by_its_name_and_no_other(client: openai.OpenAI):
    assert client.models.retrieve("documents") == client.models.list().data[0]
    with pytest.raises(openai.NotFoundError, match="ask for documents") as refused:
        client.models.retrieve("gpt-9")
    assert (refused.value.type, refused.value.code) == ("invalid_request_error", "model_not_found")


NEUTRAL = {
    "stop": None, "tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "logit_bias": {}, "functions": None,
    "parallel_tool_calls": True, "metadata": {"run": "7"}, "modalities": ["text"], "service_tier": "auto", "top_logprobs": None,
}  # fmt: skip


def test_what_changes_no_answer_is_taken(base: httpx2.Client):
    """Clients send values that mean what happens anyway, and null for what they do not want."""
    asked = {"model": "documents", "messages": [{"role": "user", "content": PROMPT}]}
    plain, *others = (
        base.post("/v1/chat/completions", json={**asked, **more}).json()["choices"]
        for more in ({}, NEUTRAL, dict.fromkeys((*NEUTRAL, "audio", "prediction", "reasoning_effort", "verbosity", "user", "seed")))
    )
    assert others == [plain, plain]


def test_an_answer_is_sent_back_as_it_came(client: openai.OpenAI):
    first = client.chat.completions.create(model="documents", messages=shown(PAGE))
    turns = [*shown(PAGE), first.choices[0].message.model_dump(), {"role": "user", "content": "Again."}]
    assert client.chat.completions.create(model="documents", messages=turns).choices


def test_a_completion_is_what_the_other_endpoint_says(client: openai.OpenAI, base: httpx2.Client):
    wanted = ask(base, PAGE).json()
    said = client.chat.completions.create(model="documents", messages=shown(PAGE), temperature=0)
    assert said.choices[0].message.content == wanted["text"]
    assert said.choices[0].finish_reason == ("length" if wanted["is_cut"] else "stop")
    assert said.usage is not None
    assert (said.usage.prompt_tokens, said.usage.completion_tokens) == (wanted["num_prompt_tokens"], wanted["num_answer_tokens"])
    assert said.usage.total_tokens == wanted["num_prompt_tokens"] + wanted["num_answer_tokens"]
    assert said.system_fingerprint == wanted["data_version"]
    assert said.model_extra is not None
    assert said.model_extra["medvl"]["variant"] == "base"


def test_a_stream_is_the_same_answer_in_pieces(client: openai.OpenAI, base: httpx2.Client):
    wanted = ask(base, PAGE).json()
    events = list(
        client.chat.completions.create(model="documents", messages=shown(PAGE), stream=True, stream_options={"include_usage": True})
    )
    *pieces, last, counts = events
    assert pieces[0].choices[0].delta.role == "assistant"
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == wanted["text"]
    assert last.choices[0].finish_reason in ("stop", "length")
    assert counts.choices == []
    assert counts.usage is not None
    assert counts.usage.completion_tokens == wanted["num_answer_tokens"]
    assert len({event.id for event in events}) == 1


def test_an_answer_is_cut_where_it_is_asked_to_be(client: openai.OpenAI):
    said = client.chat.completions.create(model="documents", messages=shown(PAGE), max_completion_tokens=3)
    assert said.usage is not None
    assert said.usage.completion_tokens == 3
    assert said.choices[0].finish_reason == "length"


def test_a_chat_goes_on_with_its_earlier_turns(client: openai.OpenAI):
    first = client.chat.completions.create(model="documents", messages=shown(PAGE))
    turns = [*shown(PAGE), first.choices[0].message.model_dump(exclude_none=True), {"role": "user", "content": "Again."}]
    again = client.chat.completions.create(model="documents", messages=turns)
    assert again.usage is not None
    assert first.usage is not None
    assert again.usage.prompt_tokens > first.usage.total_tokens


def test_a_pdf_is_read_as_a_file_or_as_a_picture(client: openai.OpenAI):
    pages = data_url(pdf([SCAN, SCAN]), "application/pdf")
    parts = ({"type": "image_url", "image_url": {"url": pages}}, {"type": "file", "file": {"file_data": pages, "filename": "../a.pdf"}})
    said = [
        client.chat.completions.create(
            model="documents", messages=[{"role": "user", "content": [part, {"type": "text", "text": PROMPT}]}]
        ).choices[0].message.content
        for part in parts
    ]  # fmt: skip
    assert said[0] == said[1]


def test_a_chinese_question_is_answered_as_elsewhere(client: openai.OpenAI, base: httpx2.Client):
    said = client.chat.completions.create(model="documents", messages=shown(PAGE, "请列出所有项目。"))
    assert said.choices[0].message.content == ask(base, PAGE, prompt="请列出所有项目。").json()["text"]


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"model": "gpt-9"}, openai.NotFoundError, "ask for documents"),
        ({"temperature": 0.7}, openai.UnprocessableEntityError, "answers as it was judged"),
        ({"top_p": 0.5}, openai.UnprocessableEntityError, "answers as it was judged"),
        ({"n": 2}, openai.UnprocessableEntityError, "answers as it was judged"),
        ({"stop": ["x"]}, openai.UnprocessableEntityError, "stop"),
        ({"tools": [{"type": "function", "function": {"name": "x"}}]}, openai.UnprocessableEntityError, "tools"),
        ({"max_tokens": 0}, openai.UnprocessableEntityError, "max_tokens"),
        ({"messages": []}, openai.UnprocessableEntityError, "messages"),
        ({"messages": [{"role": "system", "content": "Be kind."}]}, openai.UnprocessableEntityError, "judged without one"),
        ({"messages": [{"role": "developer", "content": "Be kind."}]}, openai.UnprocessableEntityError, "judged without one"),
        ({"tool_choice": "required"}, openai.UnprocessableEntityError, "tool_choice"),
        ({"response_format": {"type": "json_object"}}, openai.UnprocessableEntityError, "response_format"),
        ({"messages": [{"role": "assistant", "content": "Hello."}]}, openai.UnprocessableEntityError, "alternate"),
        ({"messages": shown(b"no picture")}, openai.APIStatusError, "no picture"),
        ({"messages": shown(PAGE, "<|image_pad|>")}, openai.UnprocessableEntityError, "special token"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_an_error_that_the_client_shows(
    client: openai.OpenAI, change: dict[str, object], kind: type[openai.APIStatusError], says: str, stream: bool
):
    with pytest.raises(kind) as refused:
        client.chat.completions.create(**{"model": "documents", "messages": shown(PAGE), "stream": stream, **change})
    assert says in refused.value.message
    assert refused.value.type == "invalid_request_error"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a.png", "file:///etc/passwd", "data:image/png,abc", "data:image/png;base64,a!", ""])
def test_no_address_is_ever_fetched(client: openai.OpenAI, url: str):
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    with pytest.raises(openai.UnprocessableEntityError, match="data URL"):
        client.chat.completions.create(model="documents", messages=messages)


def test_a_key_is_asked_for_in_the_clients_own_way(counter: Callable[..., Counter]):
    with serving(counter(keys=Keys({"": "a secret of enough letters"}))) as base:
        wait_until(base, "ready")
        with of(base, "a secret of enough letters") as client:
            assert client.chat.completions.create(model="documents", messages=[{"role": "user", "content": "Hi"}]).choices
        with of(base, "another") as stranger, pytest.raises(openai.AuthenticationError) as refused:
            stranger.models.list()
        assert refused.value.type == "authentication_error"


def test_a_picture_that_is_cut_short_is_refused_before_a_stream_begins(client: openai.OpenAI):
    whole = draw_picture("elsewhere", 1).png
    with pytest.raises(openai.APIStatusError) as refused:
        list(client.chat.completions.create(model="documents", messages=shown(whole[: len(whole) // 2]), stream=True))
    assert refused.value.status_code == 415
    assert "decoded to its end" in refused.value.message
