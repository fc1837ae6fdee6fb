"""Answers that come and go while others are written. If these passed wrongly, who asks in company would get another answer than alone, or
some other's.
"""

import copy
import gc
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
import torch
from transformers.cache_utils import DynamicLayer

from medvl_lib import pages
from medvl_lib.chat import Conversation
from medvl_lib.evaluation.answering import Speaker
from medvl_lib.evaluation.spec import EvaluationSpec
from medvl_lib.hardware import PROFILES
from medvl_lib.images import ImageStore
from medvl_lib.lines import tiny_model
from medvl_lib.models.ahead import LOOKED, PIXELS, Coming, looked_at
from medvl_lib.models.decoding import ROOM_TOKENS, RoomyLayer
from medvl_lib.models.loading import load
from medvl_lib.models.preparing import write_base
from medvl_lib.models.spec import Family
from medvl_lib.models.writing import Writing
from medvl_lib.serving.question import Question
from tests.torch_fixtures import STYLE

MOST = 40
EVALUATION = EvaluationSpec(
    splits=("test",), max_pairs_per_dataset=0, max_answer_tokens=MOST, controls=(), seed=0, datasets=(), further_variants=()
)
FAMILIES: tuple[Family, ...] = ("qwen2_5_vl", "mllama", "llava_med")


@dataclass(slots=True)
class Hearing:
    """Keeps what it hears, up to its own limit."""

    most: int = MOST
    tokens: list[int] = field(default_factory=list)
    num_prompt_tokens: int = 0
    errors: list[Exception] = field(default_factory=list)

    def begin(self, num_prompt_tokens: int) -> None:
        self.num_prompt_tokens = num_prompt_tokens

    def goes_on(self, token: int) -> bool:
        self.tokens.append(token)
        return len(self.tokens) < self.most

    def put_off(self, error: Exception) -> None:
        self.errors.append(error)


def _conversation(number: int, images: ImageStore, num_pictures: int) -> Conversation:
    shown = []
    for view in range(num_pictures):
        page = pages.text_page([f"Sodium: {130 + number + view} mmol/L", "Lactate: 1.3 mmol/L"][: 1 + number % 2], STYLE)
        shown.append(images.put(page))
    question = "List every term with its value and unit." if shown else f"What is the usual range of sodium, number {number}?"
    question += " Leave nothing out." * (number % 3)
    return Question.of(question, [b""] * num_pictures).conversation(tuple(shown))


@pytest.fixture(scope="module", params=FAMILIES)
def speaker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Speaker:
    root, spec = tmp_path_factory.mktemp(request.param), tiny_model(request.param)
    (root / "base").mkdir()
    write_base(root / "base", spec)
    return Speaker(
        variant="base", condition="as_is", loaded=load(root / "base", spec, PROFILES["cpu"]), evaluation=EVALUATION,
        images=ImageStore(root / "images"), profile=PROFILES["cpu"],
    )  # fmt: skip


def ahead(speaker: Speaker) -> Speaker:
    """Who reads in another thread: with a tokenizer of its own, as one in use by two threads fails."""
    return replace(speaker, loaded=replace(speaker.loaded, processor=copy.deepcopy(speaker.loaded.processor)))


def _alone(speaker: Speaker, conversation: Conversation) -> list[int]:
    """The tokens of an answer that the library's own generation writes, up to the end token."""
    output = speaker._generate(speaker.prompts([conversation]), MOST)[0]
    tokens = output[speaker.prompts([conversation])["input_ids"].shape[1] :].tolist()
    end = speaker.loaded.processor.tokenizer.eos_token_id
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens


@pytest.mark.parametrize("num_pictures", [(1, 1, 1, 1, 1, 1), (1, 2, 1, 2, 1, 1), (0, 0, 0, 0, 0, 0)], ids=["one", "several", "none"])
def test_who_joins_and_leaves_has_the_answer_given_alone(speaker: Speaker, num_pictures: tuple[int, ...]):
    """Two begin; others come, at most one at a token, while some have ended, some of them at limits of their own."""
    asked = [_conversation(number, speaker.images, count) for number, count in enumerate(num_pictures)]
    hearers = [Hearing(5), Hearing(), Hearing(12), Hearing(1), Hearing(), Hearing(20)]
    waiting, told = list(zip(asked, hearers, strict=True)), list[int]()

    def joining(num_rows: int) -> Iterator[Coming]:
        told.append(num_rows)
        if waiting and len(told) % 3 == 0:
            conversation, hearer = waiting.pop(0)
            yield Coming(partial(ahead(speaker).prompts, [conversation]), hearer)

    while waiting:
        first, waiting[:2] = waiting[:2], []
        speaker.tell(partial(speaker.prompts, [conversation for conversation, _ in first]), [hearer for _, hearer in first], joining)
    alone = [_alone(speaker, conversation) for conversation in asked]
    assert [one.tokens for one in hearers] == [answer[: one.most] for one, answer in zip(hearers, alone, strict=True)]
    assert [one.num_prompt_tokens for one in hearers] == [len(speaker.prompts([item])["input_ids"][0]) for item in asked]
    if any(num_pictures):  # without one the small models say little, and much the same
        assert max(told) > 2 and len({tuple(answer) for answer in alone}) > 1


def test_whose_question_cannot_be_read_is_put_off_and_the_others_go_on(speaker: Speaker):
    asked, hearers, late = [_conversation(number, speaker.images, 1) for number in range(2)], [Hearing(), Hearing()], Hearing()
    missing = [replace(asked[0], image_ids=("0" * 64,))]

    def joining(_: int) -> Iterator[Coming]:
        if missing:
            yield Coming(partial(ahead(speaker).prompts, [missing.pop()]), late)

    speaker.tell(partial(speaker.prompts, asked), hearers, joining)
    assert [one.tokens for one in hearers] == [_alone(speaker, conversation) for conversation in asked]
    assert late.tokens == [] and len(late.errors) == 1


def test_a_layer_with_room_holds_what_a_dynamic_layer_holds():
    """Across several rooms, and where rows have gone in between."""
    plain, roomy, draw = DynamicLayer(), RoomyLayer(), torch.Generator().manual_seed(3)
    for step in range(2 * ROOM_TOKENS + 5):
        new = [torch.randn(4 if step < ROOM_TOKENS else 3, 2, 7 if step == 0 else 1, 8, generator=draw) for _ in range(2)]
        if step == ROOM_TOKENS:
            for layer in (plain, roomy):
                layer.batch_select_indices(torch.tensor([0, 3, 1]))
        for held, wanted in zip(roomy.update(*new), plain.update(*new), strict=True):
            assert torch.equal(held, wanted)
    assert roomy.get_seq_length() == plain.get_seq_length() == 2 * ROOM_TOKENS + 11


def test_the_towers_of_those_families_are_asked_that_take_what_they_made(speaker: Speaker):
    """Else the library has another name for it, and every page is looked at between the tokens again."""
    prompts = speaker.prompts([_conversation(1, speaker.images, 2)])
    with torch.inference_mode():
        seen = looked_at(speaker.loaded.model, prompts)  # pyright: ignore[reportArgumentType]
    family = type(speaker.loaded.model).__name__
    assert (LOOKED in seen) == (PIXELS not in seen) == (family != "MllamaForConditionalGeneration"), family


def test_a_question_that_could_not_be_read_leaves_nothing_behind(speaker: Speaker):
    """What it held goes when it is put off, and not when the collector comes by."""

    class Held:
        pass

    class Deaf(Hearing):
        def put_off(self, error: Exception) -> None:
            num_told.append(len(error.args))

    num_told, gone, late = list[int](), list[weakref.ref[Held]](), [Deaf(), Deaf()]

    def broken() -> dict[str, torch.Tensor]:
        held = Held()
        gone.append(weakref.ref(held))
        raise OSError("no picture")

    def joining(_: int) -> Iterator[Coming]:
        if late:
            yield Coming(broken, late.pop())
        elif len(num_told) == 2:
            assert [one() for one in gone] == [None, None]

    gc.collect()
    gc.disable()
    try:
        asked = [_conversation(number, speaker.images, 1) for number in range(2)]
        speaker.tell(partial(speaker.prompts, asked), [Hearing(), Hearing()], joining)
    finally:
        gc.enable()
    assert num_told == [1, 1]


def test_what_fails_while_a_token_is_written_ends_the_reading_too(speaker: Speaker, monkeypatch: pytest.MonkeyPatch):
    read, late = threading.Event(), Hearing()

    def slow() -> dict[str, torch.Tensor]:
        assert read.wait(10)
        return {}

    def broken(_: object) -> None:
        threading.Timer(0.2, read.set).start()
        raise MemoryError

    coming = [Coming(slow, late)]
    monkeypatch.setattr(Writing, "step", broken)
    with pytest.raises(MemoryError):
        speaker.tell(
            partial(speaker.prompts, [_conversation(1, speaker.images, 1)]), [Hearing()], lambda _: [coming.pop()] if coming else []
        )
    assert read.is_set() and late.tokens == late.errors == []
