"""The audit: what the model will really see of each conversation, counted before any time on a device is spent.

In: the conversations of a line, a model directory, the image store. Out: ``audit.parquet`` with one row per conversation,
``examples.parquet`` with three of them as the model reads them, decoded from their token ids, and ``spec.json`` with the limits that the
rules hold them to. Tokens are made in ``tokenization``, tensors and label masks in ``batches``, from the same functions: no torch here.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from medvl_lib.chat import Conversation, conversations_path, read_conversations
from medvl_lib.errors import MedVLError
from medvl_lib.evaluation.predictions import REFERENCES
from medvl_lib.files import read_json, write_json
from medvl_lib.images import ImageStore
from medvl_lib.pairs import SPLITS, Split
from medvl_lib.progress import Report, silent, told
from medvl_lib.prompts import PromptFormat
from medvl_lib.provenance import Fact, Outcome
from medvl_lib.rules import columns_are_as_declared, no_rows, rule, stream
from medvl_lib.tables import Column, num_rows, write_table
from medvl_lib.tokenization import ModelReader, Tokenized, TokenizedPicture, decode, num_lost_texts, open_reader, tokenize

REVISION = 3  # licences of the examples, decoded examples, lost texts, exact targets, and the dataset of each row
AUDIT = "audit.parquet"
EXAMPLES = "examples.parquet"
SPEC = "spec.json"
BATCH_CONVERSATIONS = 64  # tokenized together; their pictures are decoded in parallel

ChosenFor = Literal["shortest", "longest", "most_image_tokens"]
CHOICES: Mapping[ChosenFor, str] = {
    "shortest": "select pair_id, dataset, split from read_parquet($audit) order by num_tokens, pair_id limit 3",
    "longest": "select pair_id, dataset, split from read_parquet($audit) order by num_tokens desc, pair_id limit 3",
    "most_image_tokens": "select pair_id, dataset, split from read_parquet($audit) order by num_image_tokens desc, pair_id limit 3",
}
"""Why a conversation is an example, and the candidates for it: as many as there are examples, since the first may be taken already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSpec:
    """What a conversation may cost and must show. Every field bears identity."""

    max_tokens: int
    """The longest conversation that is trained on, prompt, pictures and answer together; nothing is ever cut."""
    min_glyph_height_pixels: float
    """The least height of a lower-case x after the processor's resizing; below about 5 letters melt into each other."""

    def __post_init__(self) -> None:
        """Refuse limits that every conversation breaks, or none."""
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens = {self.max_tokens!r} must be 1 or more")
        if not self.min_glyph_height_pixels >= 0:
            raise ValueError(f"min_glyph_height_pixels = {self.min_glyph_height_pixels!r} must be 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """One conversation as the model will see it."""

    pair_id: Annotated[str, Column("the pair")]
    dataset: Annotated[str, Column("name of the dataset")]
    split: Annotated[Split, Column("the split it fell into")]
    num_tokens: Annotated[int, Column("tokens of the whole conversation", unit="tokens")]
    num_prompt_tokens: Annotated[int, Column("tokens that are read and never trained on, image tokens included", unit="tokens")]
    num_target_tokens: Annotated[int, Column("tokens that are trained on: the answer and its end token", unit="tokens")]
    has_exact_target: Annotated[bool, Column("whether its last tokens are the answer's own, as when it is tokenized alone")]
    num_image_tokens: Annotated[int, Column("image tokens found in the whole conversation", unit="tokens")]
    num_foreign_special_tokens: Annotated[int, Column("special tokens of the model that stand in the texts themselves", unit="tokens")]
    num_lost_texts: Annotated[int, Column("requests and answers that the tokens no longer say when they are decoded")]
    glyph_height_pixels: Annotated[float | None, Column("height of a lower-case x as the model sees it; null if unknown", unit="pixels")]
    pictures: Annotated[tuple[TokenizedPicture, ...], Column("each picture before and after resizing")]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditExample:
    """One conversation as the model reads it, decoded from its token ids."""

    pair_id: Annotated[str, Column("the pair")]
    dataset: Annotated[str, Column("name of the dataset")]
    split: Annotated[Split, Column("the split it fell into")]
    licence: Annotated[str, Column("of this very picture and text: what decides, with the data card, whether it may be shown")]
    chosen_for: Annotated[ChosenFor, Column("what it has most or least of; the next one where that conversation is an example already")]
    num_prompt_tokens: Annotated[int, Column("tokens that are read and never trained on", unit="tokens")]
    num_target_tokens: Annotated[int, Column("tokens that are trained on", unit="tokens")]
    prompt: Annotated[str, Column("what is read, decoded from the ids; a run of image tokens is written once and counted")]
    target: Annotated[str, Column("what is trained on, decoded from the ids: the answer and its end token")]
    pictures: Annotated[str, Column("each picture's width x height before -> after resizing, and its tokens", unit="pixels")]


class _Choice(NamedTuple):
    chosen_for: ChosenFor
    pair_id: str
    dataset: str
    split: Split


def write_audit(
    directory: Path,
    chat_directory: Path,
    model_directory: Path,
    images: ImageStore,
    spec: AuditSpec,
    *,
    max_pixels: int,
    report: Report = silent,
) -> dict[str, Fact]:
    """Write one row per conversation and three examples; returns totals, the extremes and the ids of the examples.

    ``max_pixels`` is the model's: the most pixels (height x width) that its processor is told to keep of a picture.
    """
    write_json(directory / SPEC, {**dataclasses.asdict(spec), "max_pixels": max_pixels})
    reader = open_reader(model_directory, images, max_pixels=max_pixels)
    rows = chain.from_iterable(_audit_rows(split, chat_directory, reader) for split in SPLITS)
    write_table(directory / AUDIT, AuditRow, told(rows, report, "conversations", num_rows(chat_directory / REFERENCES)))
    return {**_facts(directory / AUDIT), **_write_examples(directory, chat_directory, reader)}


def _audit_rows(split: Split, chat_directory: Path, reader: ModelReader) -> Iterator[AuditRow]:
    """The rows of one split, in the order of its conversations; few conversations at a time are in memory."""
    question = "select pair_id, dataset, glyph_height_pixels from read_parquet($references) where split = $split"
    references = stream(question, references=chat_directory / REFERENCES, split=split)
    conversations = read_conversations(conversations_path(chat_directory, split))
    with ThreadPoolExecutor() as pool:
        while batch := list(islice(conversations, BATCH_CONVERSATIONS)):
            distinct = {image_id for conversation in batch for image_id in conversation.image_ids}
            list(pool.map(reader.upright_size, distinct))
            beside = list(islice(references, len(batch)))
            if [pair_id for pair_id, _, _ in beside] != [conversation.pair_id for conversation in batch]:
                found = f"conversations from {batch[0].pair_id} to {batch[-1].pair_id} without their references beside them"
                raise MedVLError(found=found, where=str(chat_directory), do="materialize the chat again")
            tokenized = tokenize(batch, reader)
            for each, num_lost, (_, dataset, height) in zip(tokenized, num_lost_texts(tokenized, reader), beside, strict=True):
                yield _row(each, reader.prompt_format, dataset=dataset, split=split, num_lost_texts=num_lost, glyph_height_pixels=height)


def _row(
    tokenized: Tokenized, prompt_format: PromptFormat, *, dataset: str, split: Split, num_lost_texts: int, glyph_height_pixels: float | None
) -> AuditRow:
    return AuditRow(
        pair_id=tokenized.conversation.pair_id, dataset=dataset, split=split, num_tokens=len(tokenized.ids),
        num_prompt_tokens=tokenized.num_prompt_tokens, num_target_tokens=tokenized.num_target_tokens,
        has_exact_target=tokenized.has_exact_target, num_lost_texts=num_lost_texts,
        num_image_tokens=tokenized.ids.count(prompt_format.image_token_id),
        num_foreign_special_tokens=_num_foreign(tokenized.conversation, prompt_format),
        glyph_height_pixels=_seen_height(glyph_height_pixels, tokenized.pictures), pictures=tokenized.pictures,
    )  # fmt: skip


def _write_examples(directory: Path, chat_directory: Path, reader: ModelReader) -> dict[str, Fact]:
    """Write three distinct conversations as the model reads them; returns the id of each by what it was chosen for."""
    chosen = _choose(directory / AUDIT)
    found: dict[str, AuditExample] = {}
    question = "select pair_id, licence from read_parquet($references) where list_contains($ids, pair_id)"
    licences = dict(stream(question, references=chat_directory / REFERENCES, ids=list(chosen)))
    for split in sorted({choice.split for choice in chosen.values()}):
        wanted = [item for item in read_conversations(conversations_path(chat_directory, split)) if item.pair_id in chosen]
        for tokenized in tokenize(wanted, reader):
            found[tokenized.conversation.pair_id] = _example(tokenized, chosen, licences, reader)
    write_table(directory / EXAMPLES, AuditExample, (found[pair_id] for pair_id in chosen))
    return {f"{choice.chosen_for}_example": pair_id for pair_id, choice in chosen.items()}


def _choose(audit: Path) -> dict[str, _Choice]:
    """Three pairs by id, or all where there are fewer: what is chosen already is passed over."""
    chosen: dict[str, _Choice] = {}
    for chosen_for, question in CHOICES.items():
        candidates = (_Choice(chosen_for, *row) for row in stream(question, audit=audit))
        if choice := next((candidate for candidate in candidates if candidate.pair_id not in chosen), None):
            chosen[choice.pair_id] = choice
    return chosen


def _example(tokenized: Tokenized, chosen: Mapping[str, _Choice], licences: Mapping[str, str], reader: ModelReader) -> AuditExample:
    pair_id = tokenized.conversation.pair_id
    border = len(tokenized.ids) - tokenized.num_target_tokens
    sizes = (
        f"{item.width_pixels} x {item.height_pixels} -> {item.seen_width_pixels} x {item.seen_height_pixels}, {item.num_tokens} tokens"
        for item in tokenized.pictures
    )
    return AuditExample(
        **chosen[pair_id]._asdict(), licence=licences[pair_id], num_prompt_tokens=border, num_target_tokens=tokenized.num_target_tokens,
        prompt=decode(tokenized.ids[:border], reader), target=decode(tokenized.ids[border:], reader), pictures="; ".join(sizes),
    )  # fmt: skip


def _num_foreign(conversation: Conversation, prompt_format: PromptFormat) -> int:
    texts = [part.get("text", "") for message in conversation.messages for part in message["content"]]
    return sum(text.count(token) for text in texts for token in prompt_format.added_tokens)


def _seen_height(glyph_height_pixels: float | None, pictures: Sequence[TokenizedPicture]) -> float | None:
    if glyph_height_pixels is None or not pictures:
        return None
    return glyph_height_pixels * min(picture.seen_height_pixels / picture.height_pixels for picture in pictures)


def _facts(audit: Path) -> dict[str, Fact]:
    question = """select count(*) as num_conversations, sum(num_tokens) as num_tokens, sum(num_image_tokens) as num_image_tokens,
        sum(num_target_tokens) as num_target_tokens, max(num_tokens) as longest_tokens, min(glyph_height_pixels) as smallest_glyph_pixels
        from read_parquet($audit)"""
    names = [str(column[0]) for column in stream(f"describe {question}", audit=audit)]
    (row,) = stream(question, audit=audit)
    return dict(zip(names, row, strict=True))


def image_tokens_are_present_and_complete(directory: Path) -> Outcome:
    """Every picture's tokens are in the text, and no others: one too few, and the model refuses the batch or reads another picture."""
    question = """select pair_id from read_parquet($audit)
        where num_image_tokens <> list_sum(list_concat([0], list_transform(pictures, lambda picture: picture.num_tokens)))"""
    return no_rows("conversations have another number of image tokens than their pictures", question, audit=directory / AUDIT)


def nothing_is_truncated(directory: Path) -> Outcome:
    """No conversation is longer than what is trained on; where some are, it is said what would let them pass, or leave them out."""
    limit, audit = int(read_json(directory / SPEC)["max_tokens"]), directory / AUDIT
    question = "select pair_id from read_parquet($audit) where num_tokens > $limit"
    found = no_rows(f"conversations are longer than {limit} tokens", question, audit=audit, limit=limit)
    return found if found.passed else dataclasses.replace(found, found=f"{found.found}; {'; '.join(_cures(audit, limit))}")


def _cures(audit: Path, limit: int) -> Iterator[str]:
    """What would let conversations pass that are too long, and what would leave them out, dataset by dataset."""
    question = """select dataset, count(*), max(num_tokens), min(len(pictures)) from read_parquet($audit)
        where num_tokens > $limit group by dataset order by dataset"""
    longest = 0
    for dataset, count, most, fewest in stream(question, audit=audit, limit=limit):
        longest = max(longest, most)
        bound = f"max_images = {fewest - 1}" if fewest > 1 else "a lower max_response_characters or max_request_characters"
        yield f"{count} of {dataset}, of {fewest} pictures or more: {bound} in [datasets.{dataset}.limits] leaves them out"
    yield f"max_tokens = {longest} in the line's audit lets all of them pass, where the model and the memory have room for it"


def every_answer_has_target_tokens(directory: Path) -> Outcome:
    """Every answer is at least one token and its end."""
    return no_rows(
        "answers have no tokens to train on",
        "select pair_id from read_parquet($audit) where num_target_tokens < 2",
        audit=directory / AUDIT,
    )


def answers_begin_at_a_token(directory: Path) -> Outcome:
    """Prompt and answer have together as many tokens as the whole, and it ends with the answer's: no token reaches over the border."""
    question = """select pair_id from read_parquet($audit)
        where num_tokens <> num_prompt_tokens + num_target_tokens or not has_exact_target"""
    return no_rows("answers share a token with their prompt", question, audit=directory / AUDIT)


def texts_hold_no_special_tokens(directory: Path) -> Outcome:
    """No request or response contains a special token of the model: it would end a turn or stand for a picture."""
    question = "select pair_id from read_parquet($audit) where num_foreign_special_tokens > 0"
    return no_rows("texts contain special tokens of the model", question, audit=directory / AUDIT)


def texts_survive_the_tokenizer(directory: Path) -> Outcome:
    """Decoded, the tokens still say every request and end with the answer and its end token.

    Blocking: a character that the tokenizer cannot write would be trained on as another one and counted as a mistake for ever, and a
    template that drops a request asks nothing.
    """
    question = "select pair_id from read_parquet($audit) where num_lost_texts > 0"
    return no_rows("conversations have a request or an answer that their tokens no longer say", question, audit=directory / AUDIT)


def pictures_are_within_the_pixel_budget(directory: Path) -> Outcome:
    """No picture is shown larger than was planned for (very long ones can be)."""
    limit = int(read_json(directory / SPEC)["max_pixels"])
    question = """select pair_id from read_parquet($audit)
        where len(list_filter(pictures, lambda picture: picture.seen_width_pixels * picture.seen_height_pixels > $limit)) > 0"""
    return no_rows(f"conversations show a picture of more than {limit} pixels", question, audit=directory / AUDIT, limit=limit)


def text_is_legible(directory: Path) -> Outcome:
    """Where the height of the letters is known, they are tall enough after resizing to be told apart."""
    limit = float(read_json(directory / SPEC)["min_glyph_height_pixels"])
    question = "select pair_id from read_parquet($audit) where glyph_height_pixels < $limit"
    return no_rows(f"pages have letters below {limit:g} pixels as the model sees them", question, audit=directory / AUDIT, limit=limit)


def examples_are_of_this_audit(directory: Path) -> Outcome:
    """Three conversations, or all where there are fewer, none twice, each with the dataset and the split of its own row."""
    audit, examples = directory / AUDIT, directory / EXAMPLES
    question = """select pair_id from (
            select pair_id, dataset, split from read_parquet($examples) except select pair_id, dataset, split from read_parquet($audit)
        ) union select pair_id from read_parquet($examples) group by pair_id having count(*) > 1 order by 1"""
    strange = [str(row[0]) for row in stream(question, audit=audit, examples=examples)]
    found, wanted = num_rows(examples), min(len(CHOICES), num_rows(audit))
    return Outcome(passed=not strange and found == wanted, found=f"{found} examples of {wanted}", offenders=tuple(strange))


RULES = (
    columns_are_as_declared({AUDIT: AuditRow, EXAMPLES: AuditExample}),
    rule(image_tokens_are_present_and_complete, "Every picture has exactly its own number of image tokens in the text."),
    rule(nothing_is_truncated, "No conversation is longer than the most tokens that are trained on."),
    rule(every_answer_has_target_tokens, "Every answer gives at least one token and its end token to learn."),
    rule(answers_begin_at_a_token, "The answer begins where a token begins, so that exactly the answer is trained on."),
    rule(texts_hold_no_special_tokens, "No request or response contains a special token of the model."),
    rule(texts_survive_the_tokenizer, "Decoded, the tokens say every request and the whole answer with its end token."),
    rule(pictures_are_within_the_pixel_budget, "No picture is shown with more pixels than the budget."),
    rule(text_is_legible, "Letters of known height stay tall enough to read after resizing."),
    rule(examples_are_of_this_audit, "Three distinct conversations of the audit, or all there are, stand decoded in a table."),
)
