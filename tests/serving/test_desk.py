"""Questions that wait, and what becomes of them. If these passed wrongly, an answer could be another one in company than alone, a client
that has gone could hold the model, or a promotion fail whoever asked meanwhile.
"""

import asyncio
import contextlib
import gc
import socket
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from peft import PeftModel

from medvl_lib import pages
from medvl_lib.errors import MedVLError
from medvl_lib.evaluation.answering import Speaker
from medvl_lib.evaluation.predictions import Prediction
from medvl_lib.images import ImageStore, UnreadableImage
from medvl_lib.prompts import render_opening
from medvl_lib.serving import app, desk, door
from medvl_lib.serving.app import Counter
from medvl_lib.serving.desk import Coming, Desk
from medvl_lib.serving.door import Door
from medvl_lib.serving.question import Question, assistant, user
from medvl_lib.serving.resident import Joining, Listener, Resident, Spelling, exchange_adapter, fits_beside, load_resident, nobody
from medvl_lib.serving.running import Serving, counter_of
from medvl_lib.serving.uploads import Problem
from tests.serving.conftest import CPU, PAGE, Project, listening, serving, wait_until
from tests.serving.test_app import PROMPT, ask, changed, refusal
from tests.torch_fixtures import STYLE


def page(number: int) -> bytes:
    return pages.text_page([f"Sodium: {130 + number} mmol/L", f"Potassium: 4.{number % 10} mmol/L"][: 1 + number % 2], STYLE)


QUESTIONS = [Question.of(PROMPT, [page(number)]) for number in range(6)]


@pytest.fixture(scope="module")
def resident(project: Project) -> Resident:
    return load_resident(project.model("base"), project.line, CPU)


@pytest.fixture(scope="module")
def alone(resident: Resident) -> list[Prediction]:
    """What is said to each question by itself."""
    return [resident.answer(PROMPT, question.pictures) for question in QUESTIONS]


class Gate:
    """Holds a model before it answers, until it is let go; and counts what it was asked."""

    def __init__(self, *, passes_on: bool = False) -> None:
        """``passes_on``: whether others may join who was let go."""
        self.is_asked = threading.Event()
        self.batches: list[int] = []
        self._passes_on = passes_on
        self._leave = threading.Semaphore(0)

    def let(self, num_batches: int = 1_000) -> None:
        """Let so many batches be answered, by default all."""
        self._leave.release(num_batches)

    def before(self, resident: Resident) -> Resident:
        gate = self

        class Gated(Resident):
            def tell(self, listeners: Sequence[Listener], joining: Joining = nobody, most: int | None = None) -> None:
                gate.batches.append(len(listeners))
                gate.is_asked.set()
                gate._leave.acquire(timeout=60)
                resident.tell(listeners, joining if gate._passes_on else nobody, most)

        return changed(resident, Gated)


@asynccontextmanager
async def opened(load: Callable[[], Resident], **more: float) -> AsyncIterator[Desk]:
    at = Desk(load, **more)
    at.open()
    try:
        await until(lambda: at.status in ("ready", "failed"))
        yield at
    finally:
        await asyncio.to_thread(at.close)


async def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def run(story: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 240))


async def behind(at: Desk, gate: Gate, *questions: Question) -> list[asyncio.Task[tuple[Resident, Prediction]]]:
    """A question that the model is held at, and others that wait together behind it."""
    first = asyncio.create_task(at.ask(QUESTIONS[0]))
    await asyncio.to_thread(gate.is_asked.wait, 60)
    others = [asyncio.create_task(at.ask(question)) for question in questions]
    await asyncio.sleep(0.05)
    return [first, *others]


def test_no_more_is_held_at_a_time_than_memory_has_room_for(monkeypatch: pytest.MonkeyPatch):
    """Whatever path takes the files; and what was answered makes room again."""
    monkeypatch.setattr(door, "MAX_HELD_BYTES", 100)
    statuses: list[int] = []

    async def answer(scope: dict, receive: Callable, send: Callable) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def story() -> None:
        at, may_send = Door(answer, require_room=lambda: None), asyncio.Event()

        async def post(path: str, length: int) -> None:
            num_messages = 0

            async def receive() -> dict:
                nonlocal num_messages
                num_messages += 1
                if num_messages > 1:
                    await asyncio.sleep(60)
                await may_send.wait()
                return {"type": "http.request", "body": b"", "more_body": False}

            async def send(message: dict) -> None:
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])

            headers = [(b"content-length", b"%d" % length), (b"content-type", b"multipart/form-data; boundary=b")]
            await at({"type": "http", "method": "POST", "path": path, "headers": headers}, receive, send)

        first = asyncio.create_task(post("/similar", 60))
        await asyncio.sleep(0.01)
        await post("/page/analyze", 60)
        assert statuses == [429]
        may_send.set()
        await first
        await post("/embed", 60)
        assert statuses == [429, 200, 200]

    run(story())


# -- together ----------------------------------------------------------------------------------------------------------
def test_what_waits_is_asked_together_and_each_answer_is_the_one_given_alone(resident: Resident, alone: list[Prediction]):
    gate = Gate()

    async def story() -> None:
        async with opened(lambda: gate.before(resident)) as at:
            asked = await behind(at, gate, *QUESTIONS[1:])
            gate.let()
            said = [(await one)[1] for one in asked]
        assert gate.batches == [1, 5]
        assert [one.answer for one in said] == [one.answer for one in alone]
        assert [one.num_prompt_tokens for one in said] == [one.num_prompt_tokens for one in alone]
        assert [one.num_answer_tokens for one in said] == [one.num_answer_tokens for one in alone]
        assert [one.batch_size for one in said] == [1, 5, 5, 5, 5, 5]

    assert len({one.answer for one in alone}) > 2
    run(story())


def test_no_more_are_asked_at_once_than_the_profile_asks(resident: Resident, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(desk, "MAX_BATCH", 3)
    narrow = replace(resident, speaker=replace(resident.speaker, profile=replace(CPU, prediction_batch=2)))
    for held, sizes in ((resident, [1, 3, 2]), (narrow, [1, 2, 2, 1])):
        gate = Gate()

        async def story(held: Resident = held, gate: Gate = gate) -> None:
            async with opened(lambda: gate.before(held)) as at:
                asked = await behind(at, gate, *QUESTIONS[1:])
                gate.let()
                await asyncio.gather(*asked)

        run(story())
        assert gate.batches == sizes


def test_with_pictures_and_without_are_not_asked_together(resident: Resident):
    gate = Gate()

    async def story() -> None:
        async with opened(lambda: gate.before(resident)) as at:
            asked = await behind(
                at, gate, QUESTIONS[1], Question.of("What is sodium?"), QUESTIONS[2], Question.of("And urea?"), QUESTIONS[3]
            )
            gate.let()
            await asyncio.gather(*asked)
        assert gate.batches == [1, 3, 2]

    run(story())


def test_an_answer_ends_at_its_own_limit_and_the_others_go_on(resident: Resident, alone: list[Prediction]):
    gate = Gate()

    async def story() -> None:
        async with opened(lambda: gate.before(resident)) as at:
            short = Question.of(PROMPT, QUESTIONS[1].pictures, max_answer_tokens=3)
            long = Question.of(PROMPT, QUESTIONS[2].pictures, max_answer_tokens=10_000)
            asked = await behind(at, gate, short, long)
            gate.let()
            _, cut, whole = [(await one)[1] for one in asked]
        assert (cut.num_answer_tokens, cut.is_cut) == (3, True)
        assert alone[1].answer.startswith(cut.answer)
        assert whole.answer == alone[2].answer
        assert whole.num_answer_tokens <= resident.speaker.evaluation.max_answer_tokens

    run(story())


def test_the_pieces_of_an_answer_are_the_answer(resident: Resident, alone: list[Prediction]):
    async def heard(at: Desk, question: Question) -> tuple[list[str], Prediction]:
        async with at.stream(question) as pieces:
            told = [piece async for piece in pieces]
            return told, pieces.prediction

    async def story() -> None:
        async with opened(lambda: resident) as at:
            said = await asyncio.gather(*(heard(at, question) for question in QUESTIONS))
        for (told, whole), wanted in zip(said, alone, strict=True):
            assert "".join(told) == whole.answer == wanted.answer
            assert len(told) > 3
        assert max(whole.batch_size for _, whole in said) > 1

    run(story())


def test_one_that_cannot_be_read_is_refused_and_its_company_is_answered(resident: Resident, alone: list[Prediction]):
    gate = Gate()

    async def story() -> None:
        async with opened(lambda: gate.before(resident)) as at:
            cut = Question.of(PROMPT, [PAGE[: len(PAGE) // 2]])
            asked = await behind(at, gate, QUESTIONS[1], cut, QUESTIONS[2], QUESTIONS[3])
            gate.let()
            first, one, none, two, three = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(none, Problem)
        assert none.status == 415
        assert [said[1].answer for said in (first, one, two, three)] == [alone[number].answer for number in (0, 1, 2, 3)]
        assert at.num_pending == 0

    run(story())


def test_a_batch_that_does_not_fit_is_asked_in_parts(resident: Resident, alone: list[Prediction]):
    asked: list[int] = []

    class Narrow(Resident):
        def tell(self, listeners: Sequence[Listener], joining: object = None, most: object = None) -> None:
            asked.append(len(listeners))
            if len(listeners) > 2:
                raise MemoryError
            resident.tell(listeners)

    gate = Gate()

    async def story() -> None:
        async with opened(lambda: gate.before(changed(resident, Narrow))) as at:
            all_of_them = await behind(at, gate, *QUESTIONS[1:])
            gate.let()
            assert [(await one)[1].answer for one in all_of_them] == [one.answer for one in alone]
        assert asked == [1, 5, 2, 3, 1, 2]

    run(story())


def test_who_comes_joins_those_who_are_being_answered(resident: Resident, alone: list[Prediction]):
    """The second question comes while the first is being answered; neither waits for the other. One that cannot be read joins nobody."""
    told: list[int] = []

    class Counting(Resident):
        def tell(self, listeners: Sequence[Listener], joining: Joining = nobody, most: int | None = None) -> None:
            told.append(len(listeners))
            resident.tell(listeners, joining, most)

    async def story() -> None:
        async with opened(lambda: changed(resident, Counting)) as at, at.stream(QUESTIONS[1]) as pieces:
            said = await anext(pieces)
            second = asyncio.create_task(at.ask(QUESTIONS[0]))
            broken = asyncio.create_task(at.ask(Question.of(PROMPT, [page(0)[:-200]])))
            async for piece in pieces:
                said += piece
            assert (await second)[1].answer == alone[0].answer
            assert (said, pieces.prediction.answer) == (alone[1].answer, alone[1].answer)
            with pytest.raises(Problem):
                await broken
            await until(lambda: at.num_pending == 0)
        assert told == [1]  # it is refused without being asked again

    run(story())


def test_nobody_joins_where_another_kind_of_question_or_another_model_waits(resident: Resident, monkeypatch: pytest.MonkeyPatch):
    """Else a line of one kind would keep the other kind, or a promotion, out for ever."""
    monkeypatch.setattr(desk, "MAX_BATCH", 3)
    asked: list[list[int]] = []

    class Counting(Resident):
        def tell(self, listeners: Sequence[Listener], joining: Joining = nobody, most: int | None = None) -> None:
            asked.append([len(listeners)])

            def counted(num_answers: int) -> Sequence[Listener]:
                joined = joining(num_answers)
                asked[-1] += [num_answers] * len(joined)
                return joined

            resident.tell(listeners, counted, most)

    async def told(gate: Gate, *questions: Question, coming: Coming | None = None) -> None:
        async with opened(lambda: gate.before(changed(resident, Counting))) as at:
            waiting = await behind(at, gate, *questions)
            if coming is not None:
                at.exchange(coming)
            gate.let()
            await asyncio.gather(*waiting)

    async def story() -> None:
        await told(Gate(passes_on=True), QUESTIONS[1], Question.of("Which organ?"), QUESTIONS[2])
        assert asked == [[1, 1], [1], [1]]  # the picture behind the words has waited, though there was room
        asked.clear()
        await told(Gate(passes_on=True), QUESTIONS[1], coming=Coming(load=lambda: resident, onto=lambda before: before))
        assert asked == [[1], [1]]

    run(story())


def test_a_conversation_of_several_turns_is_asked_as_the_template_writes_it(resident: Resident):
    turns = (user("What is this?", num_pictures=1), assistant("A page."), user("List every term."))

    async def story() -> None:
        async with opened(lambda: resident) as at:
            several = (await at.ask(Question(turns=turns, pictures=(PAGE,))))[1]
            single = (await at.ask(Question.of("List every term.", [PAGE])))[1]
        prompts, tokenizer = resident.speaker.loaded.prompts, resident.speaker.loaded.processor.tokenizer
        long, short = (
            tokenizer(render_opening(prompts, said))["input_ids"] for said in (turns, [user("List every term.", num_pictures=1)])
        )
        assert several.num_prompt_tokens - single.num_prompt_tokens == len(long) - len(short) > 10

    run(story())


@pytest.mark.parametrize(
    ("turns", "pictures", "found"),
    [
        ((), (), "do not alternate"),
        ((assistant("Yes"),), (), "do not alternate"),
        ((user("a"), user("b")), (), "do not alternate"),
        ((user("a"), assistant("b")), (), "a last turn of the assistant"),
        ((user("a", num_pictures=2),), (PAGE,), "1 pictures in 2 places"),
        ((user("a"), {"role": "assistant", "content": [{"type": "image"}]}, user("b")), (PAGE,), "a picture in a turn of the assistant"),
    ],
)
def test_what_no_template_can_write_is_no_question(turns: tuple, pictures: tuple[bytes, ...], found: str):
    with pytest.raises(Problem, match=found[:10]) as refused:
        Question(turns=turns, pictures=pictures)
    assert refused.value.status == 422
    assert found in refused.value.detail


def test_tokens_are_counted_as_they_are_read(resident: Resident, alone: list[Prediction]):
    assert [resident.num_tokens(question) for question in QUESTIONS] == [one.num_prompt_tokens for one in alone]


def test_a_question_of_more_tokens_than_were_ever_evaluated_is_refused(resident: Resident):
    async def story() -> None:
        async with opened(lambda: replace(resident, max_tokens=100)) as at:
            with pytest.raises(Problem) as refused:
                await at.ask(QUESTIONS[0])
            assert refused.value.status == 422
            assert f"{resident.num_tokens(QUESTIONS[0])} tokens" in refused.value.detail

    run(story())


# -- the speaker -------------------------------------------------------------------------------------------------------
class Hearing:
    def __init__(self, most: int) -> None:
        self.most, self.tokens, self.num_prompt_tokens = most, list[int](), 0

    def begin(self, num_prompt_tokens: int) -> None:
        self.num_prompt_tokens = num_prompt_tokens

    def goes_on(self, token: int) -> bool:
        self.tokens.append(token)
        return len(self.tokens) < self.most


def test_a_row_that_nobody_wants_is_written_no_further(project: Project, resident: Resident):
    speaker: Speaker = replace(resident.speaker, images=ImageStore(project.workspace.images))
    conversations = project.conversations[:3]
    wanted = list(speaker.answer(conversations, 0))
    hearers = [Hearing(10_000), Hearing(2), Hearing(10_000)]
    speaker.tell(partial(speaker.prompts, conversations), hearers)
    assert [len(one.tokens) for one in hearers] == [wanted[0].num_answer_tokens, 2, wanted[2].num_answer_tokens]
    assert [one.num_prompt_tokens for one in hearers] == [one.num_prompt_tokens for one in wanted]
    steps: list[int] = []
    counting = resident.speaker.loaded.model.register_forward_pre_hook(lambda *_: steps.append(1))
    speaker.tell(partial(speaker.prompts, conversations), [Hearing(3), Hearing(2), Hearing(3)])
    counting.remove()
    assert len(steps) == 3


@pytest.mark.parametrize("text", ["Sodium: 139 mmol/L", "血钠:139 mmol/L，正常。", "a  b\n\n c", "😀 ok", ""])
def test_pieces_are_spelled_as_the_whole(resident: Resident, text: str):
    tokenizer = resident.speaker.loaded.processor.tokenizer
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    spelling = Spelling(tokenizer)
    pieces = [spelling.next(token) for token in ids]
    assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True) == text
    assert spelling.num_characters == len(text)
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)


# -- who goes, and who waits too long ----------------------------------------------------------------------------------
def test_who_leaves_the_line_is_not_asked_and_who_leaves_later_is_not_written_to(resident: Resident, alone: list[Prediction]):
    gate = Gate()

    async def story() -> None:
        async with opened(lambda: gate.before(resident)) as at:
            first, one, two = await behind(at, gate, QUESTIONS[1], QUESTIONS[2])
            assert at.num_pending == 3
            first.cancel()  # it is being asked already
            one.cancel()
            await asyncio.gather(first, one, return_exceptions=True)
            assert at.num_pending == 1
            gate.let()
            assert (await two)[1].answer == alone[2].answer
            assert gate.batches == [1, 1]
            assert at.num_pending == 0

    run(story())


def test_a_stream_that_nobody_closed_frees_its_place(resident: Resident):
    async def story() -> None:
        async with opened(lambda: resident) as at:
            pieces = at.stream(QUESTIONS[0])
            assert await anext(pieces)
            del pieces
            gc.collect()
            await until(lambda: at.num_pending == 0)

    run(story())


def test_who_waits_too_long_is_told_so_and_its_place_is_free(resident: Resident):
    gate = Gate()

    async def story() -> None:
        async with opened(lambda: gate.before(resident), answer_seconds=0.2) as at:
            asked = await behind(at, gate, QUESTIONS[1])
            for one in await asyncio.gather(*asked, return_exceptions=True):
                assert isinstance(one, Problem)
                assert (one.status, one.detail.split(":")[0]) == (504, "no whole answer within 0.2 seconds")
            assert at.num_pending == 0
            gate.let()
            await until(lambda: gate.batches == [1])  # the one that waited is not asked any more

    run(story())


def test_pictures_that_fill_the_memory_are_sent_away(resident: Resident, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(desk, "MAX_WAITING_BYTES", len(QUESTIONS[0].pictures[0]))
    gate = Gate()

    async def story() -> None:
        async with opened(lambda: gate.before(resident)) as at:
            [first] = await behind(at, gate)
            with pytest.raises(Problem) as refused:
                await at.ask(QUESTIONS[1])
            assert refused.value.status == 429
            assert refused.value.retry_after_seconds
            gate.let()
            await first
            assert (await at.ask(QUESTIONS[1]))[1].answer

    run(story())


def test_a_client_that_hangs_up_frees_its_place(counter: Callable[..., Counter]):
    gate, told = Gate(), counter()
    desks: list[Desk] = []

    class Kept(Desk):
        def __init__(self, load: Callable[[], Resident], **more: float) -> None:
            super().__init__(load, **more)
            desks.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "Desk", Kept)
        with serving(replace(told, load=lambda: gate.before(told.load()))) as client:
            wait_until(client, "ready")
            for _ in range(2):  # the first is being asked, the second waits
                with contextlib.suppress(httpx2.TimeoutException):
                    ask(client, PAGE, timeout=0.5)
            _wait(lambda: desks[0].num_pending == 0)
            gate.let()
            assert ask(client, PAGE).status_code == 200
            assert gate.batches == [1, 1]


def test_a_client_that_leaves_a_stream_is_written_to_no_further(project: Project, resident: Resident):
    steps: list[int] = []
    long = replace(resident, speaker=replace(resident.speaker, evaluation=replace(project.line.evaluation, max_answer_tokens=4000)))
    at = Desk(lambda: long)
    application = FastAPI(lifespan=lifespan_of(at))
    application.add_middleware(Door, require_room=at.require_room)

    @application.post("/analyze")
    async def streamed() -> StreamingResponse:
        async def said() -> AsyncIterator[str]:
            async with at.stream(QUESTIONS[5]) as pieces:
                async for piece in pieces:
                    yield piece
                    await asyncio.sleep(0.05)  # as slow as a large model

        return StreamingResponse(said())

    counting = resident.speaker.loaded.model.register_forward_pre_hook(lambda *_: (steps.append(1), time.sleep(0.05))[1])
    try:
        with listening(application) as client:
            _wait(lambda: at.status == "ready")
            steps.clear()
            with client.stream("POST", "/analyze") as response:
                next(response.iter_text())
            _wait(lambda: at.num_pending == 0)
            num_steps = len(steps)
            time.sleep(0.5)
            assert len(steps) <= num_steps + 1
            whole = resident.answer(PROMPT, QUESTIONS[5].pictures)
            assert num_steps < whole.num_answer_tokens
    finally:
        counting.remove()


def lifespan_of(at: Desk) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        at.open()
        yield
        await asyncio.to_thread(at.close)

    return lifespan


def test_who_is_sent_away_is_so_before_the_request_is_read(counter: Callable[..., Counter], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(desk, "MAX_WAITING", 0)
    with serving(counter()) as client:
        wait_until(client, "ready")
        port = client.base_url.port
        with socket.create_connection(("127.0.0.1", port)) as wire:
            head = f"POST /analyze HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            wire.sendall(f"{head}Content-Length: 30000000\r\n\r\n".encode())  # of which nothing comes
            wire.settimeout(30)
            assert wire.recv(4096).startswith(b"HTTP/1.1 429")
        assert refusal(ask(client, PAGE))[0] == 429
        assert client.get("/health").status_code == 200


def _wait(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


# -- another model -----------------------------------------------------------------------------------------------------
def test_an_adapter_takes_the_place_of_another_and_is_silent_where_none_is_served(project: Project):
    adapter, plain = project.model("adapter"), project.model("nf4")
    fresh = {model.variant: load_resident(model, project.line, CPU).answer(PROMPT, [PAGE]).answer for model in (adapter, plain)}
    assert fresh["adapter"] != fresh["nf4"]
    resident = load_resident(adapter, project.line, CPU)
    other = replace(adapter, parts=adapter.parts._replace(adapter=replace(project.adapter, fingerprint="0123456789abcdef")))
    for model, names in (
        (other, ["served_0123456789abcdef"]),
        (adapter, [f"served_{project.adapter.fingerprint}"]),
        (plain, [f"served_{project.adapter.fingerprint}"]),
    ):
        exchanged = exchange_adapter(resident, model)
        assert exchanged is not None
        resident = exchanged
        held = resident.speaker.loaded.model
        assert (list(held.peft_config) if isinstance(held, PeftModel) else []) == names
        assert resident.answer(PROMPT, [PAGE]).answer == fresh[model.variant]
        assert (resident.model, resident.speaker.variant) == (model, model.variant)
    again = exchange_adapter(resident, adapter)
    assert again is not None
    assert again.answer(PROMPT, [PAGE]).answer == fresh["adapter"]
    assert exchange_adapter(again, project.model("base")) is None


def test_the_exchange_of_an_adapter_under_load_fails_no_request(project: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(app, "FOLLOW_SECONDS", 0.05)
    told = Serving(
        model=project.model("nf4"), compared="by nobody", line=project.line, profile=CPU, workspace=project.workspace, keys=None,
        compare=lambda _: "by nobody",
    )  # fmt: skip
    said: list[tuple[int, str | None]] = []
    is_over = threading.Event()

    def ask_on(client: httpx2.Client, number: int) -> None:
        while not is_over.is_set():
            response = ask(client, page(number))
            said.append((response.status_code, response.json().get("variant")))

    project.promote("nf4")
    try:
        with serving(counter_of(told)) as client:
            wait_until(client, "ready")
            threads = [threading.Thread(target=ask_on, args=(client, number)) for number in range(6)]
            for thread in threads:
                thread.start()
            for variant in ("adapter", "nf4", "adapter"):  # the second is a rollback
                project.promote(variant)
                start = len(said)
                _wait(lambda start=start, variant=variant: (200, variant) in said[start:])
                assert client.get("/health").json()["status"] == "ready"
            is_over.set()
            for thread in threads:
                thread.join(60)
    finally:
        is_over.set()
        project.demote()
    assert {status for status, _ in said} == {200}
    assert {variant for _, variant in said} == {"nf4", "adapter"}


def test_other_weights_wait_until_the_line_is_answered_and_who_comes_then_is_told_so(resident: Resident, project: Project):
    gate, taken = Gate(), list[str]()
    other = replace(resident, model=project.model("nf4"))

    async def story() -> None:
        async with opened(lambda: gate.before(resident)) as at:
            asked = await behind(at, gate, QUESTIONS[1])
            at.exchange(Coming(load=lambda: other, taken=lambda: taken.append(at.status)))
            asked += [asyncio.create_task(at.ask(QUESTIONS[2]))]  # as long as the model is at its work nothing has changed
            await asyncio.sleep(0.05)
            gate.let(1)
            await until(lambda: at.status == "draining" and gate.batches == [1, 2])
            assert at.reason == "other weights are to be loaded: first the 2 requests that wait are answered"
            with pytest.raises(Problem) as refused:
                await at.ask(QUESTIONS[3])
            assert (refused.value.status, refused.value.retry_after_seconds) == (503, desk.NOT_READY_SECONDS)
            gate.let()
            assert [(await one)[0].model.variant for one in asked] == ["base"] * 3
            await until(lambda: at.status == "ready")
            assert taken[0] == "loading"
            assert (await at.ask(QUESTIONS[1]))[0].model.variant == "nf4"

    run(story())


def test_back_to_the_weights_that_are_still_there_nothing_is_loaded(resident: Resident):
    gate = Gate()

    def load() -> Resident:
        raise AssertionError("loaded what nobody wants any more")

    async def story() -> None:
        async with opened(lambda: gate.before(resident)) as at:
            asked = await behind(at, gate, QUESTIONS[1])
            at.exchange(Coming(load=load))
            gate.let(1)
            await until(lambda: at.status == "draining" and gate.batches == [1, 1])
            at.exchange(Coming(load=load, onto=gate.before))
            asked += [asyncio.create_task(at.ask(QUESTIONS[2]))]
            gate.let()
            assert [one[0].model.variant for one in await asyncio.gather(*asked)] == ["base"] * 3
            assert at.status == "ready"

    run(story())


def test_where_both_fit_the_one_answers_while_the_other_is_loaded(resident: Resident, project: Project):
    may_load = threading.Event()

    def load() -> Resident:
        may_load.wait(60)
        return replace(resident, model=project.model("nf4"))

    async def story() -> None:
        async with opened(lambda: resident) as at:
            at.exchange(Coming(load=load, fits=lambda: True))
            for _ in range(3):
                assert (await at.ask(QUESTIONS[1]))[0].model.variant == "base"
                assert at.status == "ready"
            may_load.set()
            while (await at.ask(QUESTIONS[1]))[0].model.variant == "base":
                assert at.status == "ready"

    run(story())


@pytest.mark.parametrize("fits", [True, False])
def test_what_comes_while_room_is_made_for_another_takes_its_place(resident: Resident, project: Project, fits: bool):
    last = replace(resident, model=project.model("nf4"))

    async def story() -> None:
        async with opened(lambda: resident) as at:

            def moved_on() -> bool:
                at.exchange(Coming(load=lambda: last))
                return fits

            at.exchange(Coming(load=lambda: resident, fits=moved_on))
            await until(lambda: at.status == "ready" and at.resident.model.variant == "nf4")
            assert (await at.ask(QUESTIONS[1]))[0].model.variant == "nf4"

    run(story())


def test_what_cannot_take_the_place_leaves_nobody_there_and_says_why(resident: Resident, project: Project):
    def fail(*_: object) -> Resident:
        raise MedVLError(found="3 missing tensors", where="/data/adapter", do="bring them")

    for coming in (Coming(load=fail), Coming(load=fail, onto=fail), Coming(load=fail, fits=lambda: True)):

        async def story(coming: Coming = coming) -> None:
            async with opened(lambda: resident) as at:
                at.exchange(coming)
                await until(lambda: at.status == "failed")
                assert at.reason == "3 missing tensors: bring them"
                with pytest.raises(Problem):
                    await at.ask(QUESTIONS[0])
                at.exchange(Coming(load=lambda: resident))
                await until(lambda: at.status == "ready")
                assert (await at.ask(QUESTIONS[0]))[1].answer

        run(story())


def test_of_what_failed_only_words_are_kept():
    """An exception holds every frame that it went through, and so the model that was being loaded."""

    class Weights:
        pass

    def load() -> Resident:
        weights = Weights()
        held.append(weakref.ref(weights))
        try:
            return {}["a tensor"]
        except KeyError as error:
            raise MedVLError(found="3 missing tensors", where="/data", do="bring them") from error

    held: list[weakref.ref[Weights]] = []

    async def story() -> None:
        async with opened(load) as at:
            await until(lambda: held[0]() is None)
            assert at.reason == "3 missing tensors: bring them"

    run(story())


def test_what_fails_beside_another_is_loaded_alone(resident: Resident, project: Project):
    """Mostly there was no room after all: the model that answers is well, and is let go first."""
    tried: list[str] = []

    async def story() -> None:
        async with opened(lambda: resident) as at:

            def load() -> Resident:
                tried.append(at.status)
                if len(tried) == 1:
                    raise MemoryError
                return replace(resident, model=project.model("nf4"))

            at.exchange(Coming(load=load, fits=lambda: True))
            await until(lambda: len(tried) == 2 and at.status in ("ready", "failed"))
            assert tried == ["ready", "loading"]
            assert (await at.ask(QUESTIONS[1]))[0].model.variant == "nf4"

    run(story())


def test_what_nobody_wants_any_more_is_not_loaded_beside_the_next(resident: Resident, project: Project):
    may_load, loading, most = threading.Event(), list[str](), list[int]()

    def loader(name: str, *, waits: bool) -> Callable[[], Resident]:
        def load() -> Resident:
            loading.append(name)
            most.append(len(loading))
            if waits:
                may_load.wait(60)
            loading.remove(name)
            return replace(resident, model=project.model("nf4"))

        return load

    async def story() -> None:
        async with opened(lambda: resident) as at:
            at.exchange(Coming(load=loader("unwanted", waits=True), fits=lambda: True))
            await until(lambda: loading == ["unwanted"])
            at.exchange(Coming(load=loader("wanted", waits=False)))
            await until(lambda: at.status == "loading")
            await asyncio.sleep(0.2)
            may_load.set()
            await until(lambda: at.status == "ready")
            assert at.resident.model.variant == "nf4"
        assert most == [1, 1]

    run(story())


@pytest.mark.parametrize("is_broken", [True, False])
def test_a_device_that_fails_for_ever_is_told_and_a_question_that_fails_is_not(resident: Resident, is_broken: bool):
    """What one question makes fail takes the server from nobody: the model is asked something of our own first."""
    asked: list[str] = []

    class Failing(Resident):
        def tell(self, listeners: Sequence[Listener], joining: object = None, most: object = None) -> None:
            if listeners[0].question.texts != ("answer me",):
                raise RuntimeError("device-side assert, and a patient's words")
            resident.tell(listeners)

        def warm_up(self) -> None:
            asked.append("our own")
            if is_broken and len(asked) > 1:
                raise RuntimeError("device-side assert")

    well = Question.of("answer me")

    async def story() -> None:
        async with opened(lambda: changed(resident, Failing)) as at:
            for question in (QUESTIONS[1], QUESTIONS[2], well, QUESTIONS[1], QUESTIONS[2]):  # never three in a row
                with contextlib.nullcontext() if question is well else pytest.raises(RuntimeError):
                    await at.ask(question)
            await until(lambda: at.num_pending == 0)
            assert (at.status, len(asked)) == ("ready", 1)
            with pytest.raises(RuntimeError):
                await at.ask(QUESTIONS[3])
            await until(lambda: len(asked) == 2 and at.num_pending == 0)
            if is_broken:
                await until(lambda: at.status == "failed")
                assert at.reason == "RuntimeError"
                at.exchange(Coming(load=lambda: resident))
                await until(lambda: at.status == "ready")
            assert (await at.ask(well))[1].answer is not None
            assert at.status == "ready"

    run(story())


def test_pictures_that_cannot_be_read_say_nothing_of_the_device(resident: Resident):
    async def story() -> None:
        async with opened(lambda: resident) as at:
            for _ in range(4):
                with pytest.raises(Problem):
                    await at.ask(Question.of(PROMPT, [PAGE[: len(PAGE) // 2]]))
            assert at.status == "ready"
            assert at._num_broken == 0

    run(story())


def test_two_models_fit_where_the_second_finds_room(project: Project, monkeypatch: pytest.MonkeyPatch):
    from medvl_lib.models.weights import held_bytes
    from medvl_lib.serving import resident as module

    model = project.model("base")
    held = held_bytes(model.weights.directory, CPU.weights_dtype)
    for free, fits in ((held / 0.8 + 1, True), (held / 0.8 - 1, False)):
        monkeypatch.setattr(module, "free_bytes", lambda *_, free=free: free)
        assert fits_beside(model, CPU) is fits


def test_before_it_is_ready_it_has_answered_once(resident: Resident):
    warm: list[str] = []

    class Noted(Resident):
        def warm_up(self) -> None:
            warm.append(at.status)
            resident.warm_up()

    at = Desk(lambda: changed(resident, Noted))

    async def story() -> None:
        at.open()
        await until(lambda: at.status == "ready")
        assert warm == ["loading"]
        await asyncio.to_thread(at.close)

    run(story())


class Watched(Question):
    """A question of which can be said whether it is still there."""

    __slots__ = ("__weakref__",)


def well(listener: Listener) -> None:
    """Answer, without a model."""
    said = Prediction(
        pair_id="", variant="base", condition="as_is", answer="well", num_prompt_tokens=1, num_answer_tokens=1, is_cut=False, batch_id=0,
        batch_size=1, latency_seconds=0.0,
    )  # fmt: skip
    listener.end(said)


def test_what_was_asked_is_let_go_with_the_answer_though_others_still_join(resident: Resident):
    """They may do so for hours: what was sent must not lie there as long."""
    at_most, asked, is_over = list[int](), list[weakref.ref[Question]](), threading.Event()

    class Endless(Resident):
        def tell(self, listeners: Sequence[Listener], joining: Joining = nobody, most: int | None = None) -> None:
            well(listeners[0])
            while not is_over.wait(0.005):
                for listener in joining(0):
                    well(listener)
                at_most.append(sum(one() is not None for one in asked))

    async def story() -> None:
        async with opened(lambda: changed(resident, Endless)) as at:
            for number in range(40):
                question = Watched(turns=Question.of(f"number {number}").turns)
                asked.append(weakref.ref(question))
                assert (await at.ask(question))[1].answer == "well"
            is_over.set()

    run(story())
    assert len(asked) == 40 and len(at_most) > 20
    assert max(at_most) <= 4


def test_who_could_not_join_does_not_wait_for_those_who_still_come(resident: Resident):
    """Its own fault is told at once; for one of the moment it is asked alone, before anybody else joins."""
    order, late = list[str](), threading.Event()

    class Feeding(Resident):
        def tell(self, listeners: Sequence[Listener], joining: Joining = nobody, most: int | None = None) -> None:
            order.append(f"asked {listeners[0].question.texts[0]}")
            num_quiet = 0
            while num_quiet < 40 and order[-1] != "asked later":
                come = joining(1)
                num_quiet = 0 if come else num_quiet + late.is_set()
                for listener in come:
                    self._joins(listener, listener.question.texts[0])
                time.sleep(0.005)
            for listener in listeners:
                well(listener)

        def _joins(self, listener: Listener, name: str) -> None:
            order.append(f"came {name}")
            if name in ("broken", "later"):
                listener.put_off(UnreadableImage("cut short") if name == "broken" else MemoryError("a patient's words"))
            else:
                well(listener)

    async def story() -> None:
        async with opened(lambda: changed(resident, Feeding)) as at:
            first = asyncio.create_task(at.ask(Question.of("first")))
            await until(lambda: order == ["asked first"])
            with pytest.raises(Problem):
                await at.ask(Question.of("broken"))
            assert not first.done()  # others are still being answered
            assert (await at.ask(Question.of("other")))[1].answer == "well"
            later = asyncio.create_task(at.ask(Question.of("later")))
            await until(lambda: order[-1] == "came later")
            next_one = asyncio.create_task(at.ask(Question.of("next")))
            late.set()
            assert [answered.answer for _, answered in await asyncio.gather(first, later, next_one)] == ["well"] * 3
            assert at.num_pending == 0

    run(story())
    assert order == ["asked first", "came broken", "came other", "came later", "asked later", "asked next"]
