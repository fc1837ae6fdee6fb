"""Retrieved cases: what is said of the most similar training cases, put before a question. No torch here.

In: the chat directory, the index of the training cases, vectors of the pictures that are asked about, and a model directory whose tokenizer
counts. Out: ``retrieved_cases.parquet``, which has the words to put before each question, and conversations with these words. A case of the
same patient, of the same picture or of another split never stands there: it would be the answer; nor does one below the index's floor of
similarity, which is like the picture in nothing. Making vectors belongs to
``models.embedding``; who is asked with cases and who without is told by the evaluation and the recipe.

    Which disease is it?     ->     Similar cases, found by their pictures:
                                    1. Dermoscopy of a melanoma on the back.
                                    2. ...

                                    Which disease is it?
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medvl_lib import case_index
from medvl_lib.case_index import INDEX
from medvl_lib.chat import Content, Conversation, Message, PlacedPair, conversations_path, read_conversations
from medvl_lib.files import read_json, write_json
from medvl_lib.images import ImageStore
from medvl_lib.pairs import PAIRS, SPLITS, Split
from medvl_lib.provenance import Fact, Outcome
from medvl_lib.rules import columns_are_as_declared, no_rows, outcome, rule, stream
from medvl_lib.tables import Column, Float32, TableWriter, num_rows, read_column, read_table, read_vectors, write_table
from medvl_lib.tokenization import ModelReader, open_reader, tokenize

REVISION = 2  # none below the floor of similarity
REVISIONS = (REVISION, case_index.REVISION)
RETRIEVED_CASES, QUERIES, SPEC = "retrieved_cases.parquet", "queries.parquet", "spec.json"
HEADINGS: Mapping[str, str] = {"en": "Similar cases, found by their pictures:", "zh": "图像相似的病例："}
"""What stands above the cases; where a language has none, its questions get no cases: the answer's language would be another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A picture that is asked about."""

    pair_id: Annotated[str, Column("the pair")]
    dataset: Annotated[str, Column("name of the dataset")]
    split: Annotated[Split, Column("where the pair went")]
    group_id: Annotated[str, Column("dataset and patient, or document where no patient is known")]
    language: Annotated[str, Column("ISO 639-1 code of the question")]
    image_id: Annotated[str, Column("SHA-256 of the picture's stored bytes")]
    embedding: Annotated[tuple[Float32, ...], Column("unit vector of the picture")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A training case beside a question."""

    pair_id: Annotated[str, Column("the case's pair")]
    split: Annotated[Split, Column("where the case went: train, or it may not stand here")]
    group_id: Annotated[str, Column("the case's dataset and patient or document: another one than the question's")]
    image_id: Annotated[str, Column("SHA-256 of its picture's stored bytes")]
    similarity: Annotated[float, Column("largest cosine of its picture and one of the question's, -1 to 1")]
    text: Annotated[str, Column("what is said of it")]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievedCases:
    """What stands before one question."""

    pair_id: Annotated[str, Column("the pair")]
    dataset: Annotated[str, Column("name of the dataset")]
    split: Annotated[Split, Column("where the pair went")]
    group_id: Annotated[str, Column("dataset and patient, or document where no patient is known")]
    image_ids: Annotated[tuple[str, ...], Column("SHA-256 of each picture of the question")]
    cases: Annotated[tuple[Case, ...], Column("the most similar first; none where the training split has no similar one in its language")]
    preface: Annotated[str, Column("the words before the question; empty where there are no cases")]
    num_unlike: Annotated[int, Column("cases that were left out, since they are less similar than the index's floor")]
    num_dropped: Annotated[int, Column("cases that were left out, the least similar first, since the conversation would be too long")]
    num_tokens: Annotated[int, Column("tokens of the whole conversation with its cases", unit="tokens")]


def write_queries(directory: Path, chat: Path, splits: Sequence[Split], vectors: Mapping[str, NDArray[np.float32]]) -> dict[str, Fact]:
    """Write a row for each picture of each pair of some splits; ``vectors`` has a unit vector (D,) of every one of them, by its id."""
    num_queries = write_table(directory / QUERIES, Query, (
        Query(
            pair_id=pair.pair_id, dataset=pair.dataset, split=pair.split, group_id=f"{pair.dataset}/{pair.group_id}",
            language=pair.language, image_id=image_id, embedding=tuple(vectors[image_id].tolist()),
        ) for pair in asked(chat, splits) for image_id in dict.fromkeys(pair.image_ids)
    ))  # fmt: skip
    return {"num_queries": num_queries}


def asked(chat: Path, splits: Sequence[Split]) -> Iterator[PlacedPair]:
    """The pairs of some splits, in their order."""
    return (pair for pair in read_table(chat / PAIRS, PlacedPair) if pair.split in splits)


def write_retrieved_cases(
    directory: Path, *, chat: Path, index: Path, model: Path, images: ImageStore, splits: Sequence[Split], num_cases: int, max_tokens: int,
    max_pixels: int,
) -> dict[str, Fact]:  # fmt: skip
    """Find the cases of every query in ``directory`` and write the words before each question; returns how many there are.

    ``max_tokens`` is the longest conversation that the line trains on: cases are dropped, the least similar first, until it is kept.
    """
    floor = case_index.similarity_floor(index)
    write_json(directory / SPEC, {"splits": list(splits), "num_cases": num_cases, "max_tokens": max_tokens, "similarity_floor": floor})
    found = dict(_nearest(directory / QUERIES, index / INDEX, num_cases))
    reader = open_reader(model, images, max_pixels=max_pixels)
    num_dropped = num_without = num_unlike = 0
    with TableWriter(directory / RETRIEVED_CASES, RetrievedCases) as writer:
        conversations = (item for split in SPLITS if split in splits for item in read_conversations(conversations_path(chat, split)))
        pairs = {pair.pair_id: pair for pair in asked(chat, splits)}
        for conversation in conversations:
            pair = pairs[conversation.pair_id]
            nearest = found.get(conversation.pair_id, []) if pair.language in HEADINGS else []
            cases = [case for case in nearest if floor is None or case.similarity >= floor]
            num_unlike += len(nearest) - len(cases)
            kept = fitting(conversation, [case.text for case in cases], pair.language, reader, max_tokens)
            num_dropped += len(cases) - kept.num_cases
            num_without += not kept.num_cases
            writer.write(RetrievedCases(
                pair_id=pair.pair_id, dataset=pair.dataset, split=pair.split, group_id=f"{pair.dataset}/{pair.group_id}",
                image_ids=pair.image_ids, cases=tuple(cases[: kept.num_cases]), preface=kept.preface,
                num_unlike=len(nearest) - len(cases), num_dropped=len(cases) - kept.num_cases, num_tokens=kept.num_tokens,
            ))  # fmt: skip
    return {
        "num_conversations": writer.num_rows,
        "num_dropped_cases": num_dropped,
        "num_unlike_cases": num_unlike,
        "num_without_cases": num_without,
    }


class Fitting(NamedTuple):
    """The words before a question, and how many cases and tokens that makes."""

    preface: str
    num_cases: int
    num_tokens: int
    """Of the whole conversation with them."""


def fitting(conversation: Conversation, texts: Sequence[str], language: str, reader: ModelReader, max_tokens: int) -> Fitting:
    """The words of as many cases (``texts``, the most similar first) as leave a conversation of at most ``max_tokens``, or of none."""
    num_cases = len(texts) if language in HEADINGS else 0
    while True:
        preface = worded(HEADINGS.get(language, ""), texts[:num_cases])
        [tokenized] = tokenize([with_cases(conversation, preface)], reader)
        if len(tokenized.ids) <= max_tokens or not num_cases:
            return Fitting(preface, num_cases, len(tokenized.ids))
        num_cases -= 1


class _Index(NamedTuple):
    """The cases that can be found: of a picture with several texts in one language the first."""

    rows: list[Case]
    """In the index's order, with no similarity yet."""
    languages: NDArray[np.str_]
    embeddings: NDArray[np.float32]
    """Unit vectors (G, D)."""


def _nearest(queries: Path, index: Path, count: int) -> Iterator[tuple[str, list[Case]]]:
    """Each pair with its cases, the best first: an exact search, one pair at a time, held against every case.

    A pair of several pictures takes the cases that are nearest to any of them; of equally near ones the one that stands first.
    """
    found, vectors = _read_index(index), read_vectors(queries, "embedding")
    groups = np.array([case.group_id for case in found.rows])
    pictures = np.array([case.image_id for case in found.rows])
    columns = ("pair_id", "group_id", "language", "image_id")
    asked_with = zip(*(read_column(queries, name) for name in columns), vectors, strict=True)
    for pair_id, own in groupby(asked_with, key=lambda query: query[0]):
        _, of_group, of_language, shown, asked_vectors = zip(*own, strict=True)
        cosines = (np.stack(asked_vectors) @ found.embeddings.T).max(axis=0)
        is_other = (groups != of_group[0]) & (found.languages == of_language[0]) & ~np.isin(pictures, shown)
        [places] = np.nonzero(is_other)
        best: list[int] = places[np.argsort(-cosines[places], kind="stable")[:count]].tolist()
        yield pair_id, [replace(found.rows[place], similarity=float(np.clip(cosines[place], -1, 1))) for place in best]


def _read_index(index: Path) -> _Index:
    columns = ("pair_id", "split", "group_id", "image_id", "text", "language")
    rows = list(zip(*(read_column(index, name) for name in columns), strict=True))
    first: dict[tuple[str, str], int] = {}
    for place, (_, _, _, image_id, _, language) in enumerate(rows):
        first.setdefault((image_id, language), place)
    kept = list(first.values())
    return _Index(
        rows=[
            Case(pair_id=pair_id, split=split, group_id=group_id, image_id=image_id, similarity=0.0, text=text)
            for pair_id, split, group_id, image_id, text, _ in (rows[place] for place in kept)
        ],
        languages=np.array([rows[place][-1] for place in kept]),
        embeddings=read_vectors(index, "embedding")[kept],
    )  # fmt: skip


def worded(heading: str, texts: Sequence[str]) -> str:
    """The cases as they stand before a question, numbered from the most similar one; empty where there are none."""
    return "\n".join((heading, *(f"{number}. {text}" for number, text in enumerate(texts, start=1)))) if texts else ""


def prefaces(directory: Path) -> dict[str, str]:
    """Pair -> the words before its question."""
    return dict(stream("select pair_id, preface from read_parquet($cases)", cases=directory / RETRIEVED_CASES))


def before(preface: str, question: str) -> str:
    """A question after the words that stand before it."""
    return f"{preface}\n\n{question}" if preface else question


def with_cases(conversation: Conversation, preface: str) -> Conversation:
    """The conversation with these words before its first text; the same one where there are none."""
    if not preface:
        return conversation
    first, *others = conversation.messages
    number = next(place for place, part in enumerate(first["content"]) if part["type"] == "text")
    content: list[Content] = [*first["content"]]
    content[number] = {"type": "text", "text": before(preface, content[number].get("text", ""))}
    asking: Message = {"role": first["role"], "content": content}
    return replace(conversation, messages=(asking, *others))


def all_with_cases(conversations: Iterable[Conversation], words: Mapping[str, str]) -> list[Conversation]:
    """Each conversation with the words that ``prefaces`` has for it; raises KeyError for one that it does not know."""
    return [with_cases(conversation, words[conversation.pair_id]) for conversation in conversations]


# -- what must be true of them -----------------------------------------------------------------------------------------
def every_question_was_looked_for(directory: Path) -> Outcome:
    """Each pair of the queries has one row, with at most as many cases as were asked for, and no row is of another pair."""
    most = int(read_json(directory / SPEC)["num_cases"])
    question = """
        select coalesce(q.pair_id, c.pair_id) from (select distinct pair_id from read_parquet($queries)) q
        full join (select pair_id, count(*) as number, max(len(cases)) as longest from read_parquet($cases) group by pair_id) c
        using (pair_id) where q.pair_id is null or number is distinct from 1 or longest > $most order by 1
    """
    missing = [str(row[0]) for row in stream(question, queries=directory / QUERIES, cases=directory / RETRIEVED_CASES, most=most)]
    found = num_rows(directory / RETRIEVED_CASES)
    return Outcome(passed=found > 0 and not missing, found=f"{found} questions, {len(missing)} astray", offenders=tuple(missing[:10]))


def no_case_is_the_answer(directory: Path) -> Outcome:
    """No case is of the question's patient, of its picture, or of another split than train."""
    question = """
        select pair_id from (select pair_id, group_id, image_ids, unnest(cases) as found from read_parquet($cases))
        where found.group_id = group_id or list_contains(image_ids, found.image_id) or found.split <> 'train' order by 1
    """
    return no_rows("questions have a case that could be their answer", question, cases=directory / RETRIEVED_CASES)


def no_case_is_below_the_floor(directory: Path) -> Outcome:
    """Every case is at least as similar as the index's floor, where it has one."""
    floor = read_json(directory / SPEC)["similarity_floor"]
    return no_rows(
        "questions have a case that is like their picture in nothing",
        "select pair_id from read_parquet($cases) where len(list_filter(cases, lambda found: found.similarity < $floor)) > 0 order by 1",
        cases=directory / RETRIEVED_CASES, floor=-2.0 if floor is None else floor,
    )  # fmt: skip


def cases_come_the_most_similar_first(directory: Path) -> Outcome:
    """Similarities are cosines and never rise, and no picture stands there twice."""
    question = """
        select pair_id from (
            select pair_id, list_transform(cases, lambda found: found.similarity) as cosines,
                list_transform(cases, lambda found: found.image_id) as pictures
            from read_parquet($cases)
        )
        where cosines <> list_reverse_sort(cosines) or len(list_distinct(pictures)) < len(pictures)
           or len(list_filter(cosines, lambda cosine: not cosine between -1.0001 and 1.0001)) > 0
        order by 1
    """
    return no_rows("questions have cases out of order, twice, or without a cosine", question, cases=directory / RETRIEVED_CASES)


def the_words_are_those_of_the_cases(directory: Path) -> Outcome:
    """Every case's text stands in the words before the question, and where there are no cases there are no words."""
    question = "select pair_id, preface, list_transform(cases, lambda found: found.text) from read_parquet($cases)"
    wrong = [
        pair_id for pair_id, preface, texts in stream(question, cases=directory / RETRIEVED_CASES)
        if preface not in {worded(heading, texts) for heading in HEADINGS.values()}
    ]  # fmt: skip
    return outcome(wrong, "questions have other words before them than their cases'")


def questions_with_cases_fit(directory: Path) -> Outcome:
    """No question with its cases is longer than what the line trains on."""
    limit = int(read_json(directory / SPEC)["max_tokens"])
    question = "select pair_id from read_parquet($cases) where num_tokens > $limit and len(cases) > 0 order by 1"
    return no_rows(f"questions with cases are longer than {limit} tokens", question, cases=directory / RETRIEVED_CASES, limit=limit)


RULES = (
    columns_are_as_declared({RETRIEVED_CASES: RetrievedCases, QUERIES: Query}),
    rule(every_question_was_looked_for, "Every question was looked for, and has at most as many cases as were asked for."),
    rule(no_case_is_the_answer, "No case is of the question's patient or picture, nor of the validation or test split."),
    rule(no_case_is_below_the_floor, "No case is less similar to the question's picture than the index's floor."),
    rule(cases_come_the_most_similar_first, "Cases come the most similar first, and each picture once."),
    rule(the_words_are_those_of_the_cases, "The words before a question are those of its cases."),
    rule(questions_with_cases_fit, "No question with its cases is longer than the most tokens that are trained on."),
)
