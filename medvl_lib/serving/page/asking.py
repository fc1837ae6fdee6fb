"""What a form of the page asks of the model, and what is shown of the answer.

In: a form with pictures or the number of an example, and perhaps a question. Out: a ``Said`` for each speaker. What may be asked is the
desk's to say; what is wrong comes back as a ``Problem``, which the page shows above the form.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import fastapi
from starlette.datastructures import FormData, UploadFile

from medvl_lib.evaluation.predictions import Prediction
from medvl_lib.images import Thumbnail, thumbnail
from medvl_lib.serving.desk import Desk
from medvl_lib.serving.endpoints.documents import shown_together
from medvl_lib.serving.extraction import Span, StatedFact, stated_facts
from medvl_lib.serving.identifiers import Identifier, of_text
from medvl_lib.serving.page.samples import Sample
from medvl_lib.serving.problems import Problem
from medvl_lib.serving.question import Question
from medvl_lib.serving.resident import Resident
from medvl_lib.serving.room import ROOM
from medvl_lib.serving.served import ServedModel
from medvl_lib.serving.uploads import Document, cost, size_of

SIDE_PIXELS = 900  # of what was asked about, as the page shows it


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What a form holds."""

    prompt: str
    sample: str
    """Number of an example; empty: none."""
    document: Document


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of an answer's text, and what it states there: ``term``, ``value``, ``unit``, or nothing."""

    text: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One speaker's answer."""

    speaker: str
    model: ServedModel
    prediction: Prediction
    facts: tuple[StatedFact, ...]

    @property
    def pieces(self) -> Iterator[Piece]:
        """The answer cut at its facts; together they are the answer."""
        marks = sorted(((span, kind) for fact in self.facts for span, kind in _spans(fact)), key=lambda mark: mark[0].start)
        text, end = self.prediction.answer, 0
        for span, kind in marks:
            yield Piece(text=text[end : span.start], kind="")
            yield Piece(text=text[span.start : span.end], kind=kind)
            end = span.end
        yield Piece(text=text[end:], kind="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What came of a form."""

    question: str
    pictures: tuple[Thumbnail, ...]
    """What the model's processor gets, scaled down."""
    identifiers: tuple[Identifier, ...]
    """What in question, document or answers may say who the patient is."""
    said: tuple[Said, ...]


def _spans(fact: StatedFact) -> Iterator[tuple[Span, str]]:
    yield fact.term_span, "term"
    yield fact.value_span, "value"
    if fact.unit_span is not None:
        yield fact.unit_span, "unit"


async def sent(form: FormData) -> Sent:
    """What a form holds; files stay in memory. A Problem where one cannot be read."""
    files = [file for file in form.getlist("image") if isinstance(file, UploadFile) and file.filename]  # an empty field has no name
    document = await shown_together(cast("list[fastapi.UploadFile]", files))
    return Sent(prompt=text(form, "prompt"), sample=text(form, "sample"), document=document)


def text(form: FormData, name: str) -> str:
    """A field's words, with line ends as everywhere else; empty where there is none."""
    value = form.get(name, "")
    return value.replace("\r\n", "\n") if isinstance(value, str) else ""


def document_of(sent: Sent, samples: Sequence[Sample]) -> Document:
    """What is asked about; a Problem where two things were chosen."""
    if not sent.sample:
        return sent.document
    if sent.document.pages:
        raise Problem(422, found="a file and an example", do="take one of them")
    if not (sent.sample.isascii() and sent.sample.isdecimal()) or int(sent.sample[:9]) >= len(samples):
        raise Problem(422, found="an example that is not there", do="choose one of the page")
    return Document(pages=samples[int(sent.sample)].pictures)


def require_some(document: Document) -> None:
    """Refuse a question about a document without one."""
    if not document.pages:
        raise Problem(422, found="no document", do="choose a file or an example")


async def answered(desk: Desk, questions: Iterable[Question]) -> tuple[Said, ...]:
    """What is said to each question, one after the other."""
    said = tuple([_said(*await desk.ask(question), question) for question in questions])
    if len({one.model.data_version for one in said}) > 1:
        raise Problem(503, found="another model was loaded between the answers", do="ask again")
    return said


def _said(resident: Resident, prediction: Prediction, question: Question) -> Said:
    weights = resident.model.weights_variant
    speaker = f"Without the adapter ({weights})" if question.without_adapter else f"As served ({prediction.variant})"
    return Said(speaker=speaker, model=resident.model, prediction=prediction, facts=tuple(stated_facts(prediction.answer)))


def shown(question: Question, document: Document, said: tuple[Said, ...]) -> Answered:
    """What came of it, with the pages as the page shows them; they were decoded before."""
    [asked] = question.texts
    answers = [found for one in said for found in of_text(one.prediction.answer, "answer")]
    return Answered(
        question=asked, pictures=tuple(map(_shown, document.pages)), said=said,
        identifiers=(*document.identifiers, *of_text(asked, "prompt"), *answers),
    )  # fmt: skip


def _shown(page: bytes) -> Thumbnail:
    with ROOM.take(cost([size_of(page)])):
        return thumbnail(page, SIDE_PIXELS)


def without_adapter(question: Question) -> Question:
    """The same question to the weights as they are."""
    return replace(question, without_adapter=True)
