"""A resident model: loaded once, asked some questions at a time, by the very code that the evaluation asks with.

In: a ``ServedModel``, and pictures as they were uploaded. Out: ``Prediction`` rows, or pieces of them as they are written.
``evaluation.answering`` renders, tokenizes and generates; here its pictures come from memory instead of the image store. Which questions
wait, and which of them are asked together, is ``desk``'s; the wire, and who may ask, are ``app``'s.
"""

import hashlib
import io
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from PIL import Image

from medvl_lib.chat import Conversation
from medvl_lib.evaluation.answering import Speaker
from medvl_lib.evaluation.predictions import Condition, Prediction
from medvl_lib.hardware import Profile
from medvl_lib.images import Pictures
from medvl_lib.lines import Line
from medvl_lib.models.ahead import Coming, Prompts
from medvl_lib.models.loading import PROCESSORS, attach, free_bytes, load, take_instead
from medvl_lib.models.weights import held_bytes
from medvl_lib.prompts import render_opening
from medvl_lib.serving.question import Question
from medvl_lib.serving.room import ROOM
from medvl_lib.serving.served import ServedModel
from medvl_lib.serving.uploads import Size, cost, size_of
from medvl_lib.tokenization import ModelReader, open_reader

BESIDE_SHARE = 0.8  # of the free memory that a second model's weights may take while the first one still answers
WARM_UP_SIDE_PIXELS = 56
UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what a tokenizer writes for the first bytes of a character


class Listener(Protocol):
    """Who asked, while the answer is written; called by the model's own thread, but for ``is_gone``."""

    @property
    def question(self) -> Question:
        """What was asked, until the answer has ended."""
        ...

    @property
    def is_gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        ...

    @property
    def is_streamed(self) -> bool:
        """Whether pieces are wanted."""
        ...

    def hear(self, piece: str) -> None:
        """A piece of the answer; the pieces together are the answer."""
        ...

    def end(self, said: Prediction) -> None:
        """The answer, when its own last token is there: others of its batch may still be written."""
        ...

    def put_off(self, error: Exception) -> None:
        """It could not join those that are being answered: it is to be asked again, or told why not."""
        ...


Joining = Callable[[int], Sequence[Listener]]
"""Who comes next to so many that are being answered or read."""


def nobody(num_answers: int) -> Sequence[Listener]:
    """Who joins while so many answers are written: nobody."""
    del num_answers
    return ()


@dataclass(frozen=True, slots=True)
class Uploads:
    """Pictures of some requests, by their SHA-256: the image store's interface, and nothing on disk."""

    by_id: Mapping[str, bytes]

    def read(self, image_id: str) -> bytes:
        """The uploaded bytes."""
        return self.by_id[image_id]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A model that can be asked; not by two threads at once."""

    model: ServedModel
    speaker: Speaker
    reader: ModelReader
    """Counts tokens, with a tokenizer of its own: another thread asks it while the model's own is in use."""
    processor: Any
    """Reads the questions that come, beside the answers: for the same reason another one than the model's own."""
    max_tokens: int
    """Of a question and its answer together: what the line's audit lets through, and so what was trained on and evaluated."""

    @property
    def precision(self) -> str:
        """What the weights really are: ``nf4+float32``."""
        return self.speaker.loaded.precision

    @property
    def max_batch(self) -> int:
        """The most questions at a time: as many of the longest as the evaluation asks, and so what memory was planned for."""
        return self.speaker.profile.prediction_batch

    def num_tokens(self, question: Question) -> int:
        """Tokens of a question, its pictures' included, by the pictures' own words about their size: nothing is decoded."""
        text = render_opening(self.reader.prompt_format, question.turns)
        num_tokens = len(self.reader.tokenizer.encode(text, add_special_tokens=False))
        sizes = [size_of(data) for data in question.pictures]  # each has a place already
        return num_tokens + sum(self.reader.sizing(size.height_pixels, size.width_pixels).num_tokens - 1 for size in sizes)

    def answer(self, request: str, pictures: Sequence[bytes]) -> Prediction:
        """What the model says to a question about these pictures; they must be readable by ``images.rgb_pixels``."""
        conversation, shown = _taken([Question.of(request, pictures)])
        [answered] = replace(self.speaker, images=Uploads(shown)).answer(conversation, batch_id=0)
        return answered

    def tell(self, listeners: Sequence[Listener], joining: Joining = nobody, most: int | None = None) -> None:
        """Answer questions together. Each answer ends at its own limit, is told when it ends, and is no longer written once nobody waits.

        ``joining`` is asked before each token who joins them, with the number of answers that are being written and of questions that are
        read; ``most`` are written at a time, None for ``max_batch``. All of them are asked with the adapter, or all without it. Where their
        pictures are more than there is room to decode at a time, the first are read first, and the others join them: pages of ordinary
        size are not.

        Its ``latency_seconds`` are its own, from the pictures' bytes to its last token. Raises UnreadableImage for a picture of the first
        of ``listeners`` that cannot be decoded; who joins is put off instead.
        """
        left = deque(listeners)
        while left:
            first = [left.popleft() for _ in _decoded_together(left)]
            self._tell(first, lambda num_answers: _next(left, joining, num_answers), most)

    def _tell(self, listeners: Sequence[Listener], joining: Callable[[int], Iterable[Listener]], most: int | None) -> None:
        speaker = self._who_answers(listeners[0].question)
        ahead = replace(speaker, loaded=replace(speaker.loaded, processor=self.processor))

        def more(num_answers: int) -> Iterator[Coming]:
            for number, listener in enumerate(joining(num_answers), start=num_answers + 1):
                [conversation], pictures = _taken([listener.question])
                read = partial(_read_one, ahead, conversation, pictures, listener)
                yield Coming(read, _Answer(speaker, conversation, listener, number))

        conversations, pictures = _taken([listener.question for listener in listeners])
        answers = [_Answer(speaker, *each, len(listeners)) for each in zip(conversations, listeners, strict=True)]
        speaker.tell(partial(_read, speaker, conversations, pictures), answers, more, most)

    def _who_answers(self, question: Question) -> Speaker:
        """What is served, or the weights under its adapter as they are."""
        return replace(self.speaker, adapter=None, variant=self.model.weights_variant) if question.without_adapter else self.speaker

    def warm_up(self) -> None:
        """A short answer about an empty page that fills caches and is not kept."""
        stream = io.BytesIO()
        Image.new("RGB", (WARM_UP_SIDE_PIXELS, WARM_UP_SIDE_PIXELS), "white").save(stream, "PNG")
        conversations, shown = _taken([Question.of("What is this?", [stream.getvalue()])])
        replace(self.speaker, images=Uploads(shown)).warm_up(conversations)


def _next(left: deque[Listener], joining: Joining, num_answers: int) -> Iterator[Listener]:
    """Who comes next to so many: those who are left, and then who joins."""
    while left:
        listener = left.popleft()
        if not listener.is_gone:
            num_answers += 1
            yield listener
    yield from joining(num_answers)


def _decoded_together(listeners: Iterable[Listener]) -> list[Listener]:
    """The first questions, as many as there is room for now; at least one."""
    num_free, sizes, together = ROOM.num_free, list[Size](), list[Listener]()
    for listener in listeners:
        sizes += _sizes([listener])
        if together and cost(sizes) > num_free:
            break
        together.append(listener)
    return together


def _read(speaker: Speaker, conversations: Sequence[Conversation], pictures: dict[str, bytes]) -> Prompts:
    """Read questions, once there is room for their pictures, which are given up then: others may join for hours."""
    sizes = [size_of(pictures[image_id]) for conversation in conversations for image_id in conversation.image_ids]
    try:
        with ROOM.take(cost(sizes)):
            return replace(speaker, images=Uploads(pictures)).prompts(conversations)
    finally:
        pictures.clear()


def _read_one(speaker: Speaker, conversation: Conversation, pictures: dict[str, bytes], listener: Listener) -> Prompts | None:
    """Read the question of somebody who still waits for the answer; None where nobody does."""
    return None if listener.is_gone else _read(speaker, [conversation], pictures)


def _sizes(listeners: Iterable[Listener]) -> list[Size]:
    return [size_of(data) for listener in listeners for data in listener.question.pictures]


def _taken(questions: Iterable[Question]) -> tuple[list[Conversation], dict[str, bytes]]:
    """Questions as the evaluation has them, and their pictures by id."""
    by_id: dict[str, bytes] = {}
    conversations: list[Conversation] = []
    for question in questions:
        ids = tuple(hashlib.sha256(data).hexdigest() for data in question.pictures)
        by_id.update(zip(ids, question.pictures, strict=True))
        conversations.append(question.conversation(ids))
    return conversations, by_id


class _Answer:
    """One answer of a batch while it is written."""

    def __init__(self, speaker: Speaker, conversation: Conversation, listener: Listener, batch_size: int) -> None:
        wanted, own = listener.question.max_answer_tokens, speaker.evaluation.max_answer_tokens
        self._speaker, self._conversation, self._listener, self._batch_size = speaker, conversation, listener, batch_size
        self._limit = own if wanted is None else min(wanted, own)
        self._ids: list[int] = []
        self._spelling = Spelling(speaker.loaded.processor.tokenizer)
        self._num_prompt_tokens = 0
        self._started = time.perf_counter()

    def begin(self, num_prompt_tokens: int) -> None:
        """The question is read."""
        self._num_prompt_tokens = num_prompt_tokens

    def goes_on(self, token: int) -> bool:
        """Tell the token, and the whole answer with the last one."""
        if self._listener.is_gone:
            return False
        self._ids.append(token)
        if len(self._ids) < self._limit and token != self._speaker.loaded.processor.tokenizer.eos_token_id:
            if self._listener.is_streamed and (piece := self._spelling.next(token)):
                self._listener.hear(piece)
            return True
        said = self._speaker.prediction(
            self._conversation, self._ids, num_prompt_tokens=self._num_prompt_tokens, batch_id=0, batch_size=self._batch_size,
            seconds=time.perf_counter() - self._started,
        )  # fmt: skip
        if rest := said.answer[self._spelling.num_characters :]:
            self._listener.hear(rest)
        self._listener.end(said)
        return False

    def put_off(self, error: Exception) -> None:
        """It could not join."""
        self._listener.put_off(error)


class Spelling:
    """Text of tokens that come one by one: what a tokenizer writes differently once it knows the next one is held back.

    Source: ``decode_token`` of text-generation-inference, server/text_generation_server/models/model.py @ 9d10c5e.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._start = self._told = 0  # from where it is decoded, so that a blank before a word is seen; up to where it was told
        self.num_characters = 0
        """Told so far."""

    def next(self, token: int) -> str:
        """What one more token adds; empty where a character has just begun."""
        self._ids.append(token)
        before, now = self._text(self._ids[self._start : self._told]), self._text(self._ids[self._start :])
        if len(now) <= len(before) or now.endswith(UNFINISHED):
            return ""
        self._start, self._told = self._told, len(self._ids)
        self.num_characters += len(now) - len(before)
        return now[len(before) :]

    def _text(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True)


# -- what comes, stays and goes ----------------------------------------------------------------------------------------
def load_resident(model: ServedModel, line: Line, profile: Profile, images: Pictures | None = None) -> Resident:
    """Load what is served, with its adapter on top where it has one; ``images`` are what conversations name by id, if any are asked."""
    as_is: Condition = "as_is"
    loaded, name = load(model.weights.directory, line.model, profile), _adapter_name(model)
    if name is not None and model.adapter is not None:
        loaded = attach(loaded, {name: model.adapter.directory})
    speaker = Speaker(
        variant=model.variant, condition=as_is, loaded=loaded, evaluation=line.evaluation,
        images=Uploads({}) if images is None else images, profile=profile, adapter=name,
    )  # fmt: skip
    reader = open_reader(model.weights.directory, Uploads({}), max_pixels=line.model.max_pixels)
    processor = PROCESSORS[line.model.family](model.weights.directory, max_pixels=line.model.max_pixels)
    return Resident(model=model, speaker=speaker, reader=reader, processor=processor, max_tokens=line.audit.max_tokens)


def _adapter_name(model: ServedModel) -> str | None:
    """What an adapter is called on its weights: two of them lie there while one takes the other's place."""
    return None if model.adapter is None else f"served_{model.adapter.fingerprint}"


def exchange_adapter(resident: Resident, model: ServedModel) -> Resident | None:
    """The same weights with the adapter of ``model`` in place of theirs; without one, theirs is silent. None where it stands on others.

    Between two answers only. What was ``resident`` before cannot be asked any more; where this fails, neither can what it was made of.
    """
    if resident.model.weights.directory != model.weights.directory:
        return None
    loaded, name = resident.speaker.loaded, _adapter_name(model)
    if name is not None and model.adapter is not None:
        loaded = take_instead(loaded, name, model.adapter.directory)
    speaker = replace(resident.speaker, variant=model.variant, loaded=loaded, adapter=name)
    return replace(resident, model=model, speaker=speaker)


def fits_beside(model: ServedModel, profile: Profile) -> bool:
    """Whether a model's weights fit into what is free now, while another one lies there and answers: by their bytes alone."""
    return held_bytes(model.weights.directory, profile.weights_dtype) <= BESIDE_SHARE * free_bytes(profile)
