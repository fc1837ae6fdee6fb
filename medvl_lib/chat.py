"""Chat: each pair as the conversation that a chat template consumes.

In: a split and the validated pairs it was made from. Out: ``train.jsonl``, ``validation.jsonl``, ``test.jsonl``, ``benchmark.jsonl``
(always there, possibly empty), ``references.parquet`` for the scorers, ``pairs.parquet`` with the pairs of all datasets in one table, and
``counts.json``. Before and after:

    Pair(pair_id="slake/test/000007", image_ids=("9f2c...",), request="Which organ is this? ", response="Lung", ...)
    {"pair_id": "slake/test/000007", "images": ["9f2c..."], "messages": [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which organ is this?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Lung"}]}]}

Texts neither start nor end with white space: a tokenizer would join it with its neighbours, and the answer's first token would be
another one in training than in generation. Special tokens and the template belong to ``prompts``, pixels to the processor.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from medvl_lib.datasets.descriptions import ANSWER_LABELS, CATEGORY
from medvl_lib.errors import MedVLError
from medvl_lib.evaluation.predictions import REFERENCES, Reference
from medvl_lib.files import read_json, write_json
from medvl_lib.pairs import PAIRS, SPLITS, Pair, Split
from medvl_lib.provenance import Fact, Outcome
from medvl_lib.rules import columns_are_as_declared, outcome, rule, stream
from medvl_lib.split import SPLIT, SplitRow, placed
from medvl_lib.tables import Column, TableWriter, num_rows

REVISION = 6  # a reference knows its stage
COUNTS = "counts.json"
SLICES = ("document_type", "specialty", "answer_type", "modality", "category", "agreement", "stage")
"""Publishers' labels that are reported apart, where a pair has them."""
LABELS = (*SLICES, "language")
"""Every label that a pair may be reported, and guarded, by."""
GLYPH_HEIGHT = "glyph_height_pixels"  # the metadata key under which a dataset that draws its pages says how tall a lower-case x is

Role = Literal["user", "assistant"]


class Content(TypedDict):
    """One part of a message, as chat templates have it: a picture's place, or a text."""

    type: Literal["image", "text"]
    text: NotRequired[str]


class Message(TypedDict):
    """One turn, as chat templates have it."""

    role: Role
    content: list[Content]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What a model is shown, and the answer that it should give last."""

    pair_id: str
    image_ids: tuple[str, ...]
    """SHA-256 of each picture, in the order of their places in the messages."""
    messages: tuple[Message, ...]

    @property
    def dataset(self) -> str:
        """The name that its id begins with."""
        return self.pair_id.split("/", 1)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedPair(Pair):
    """A pair beside those of the line's other datasets: pictures, texts, source, category and metadata in one row."""

    split: Annotated[Split, Column("where the pair went")]
    category: Annotated[str | None, Column("the class that its picture belongs to; null where there is none")]


def to_placed(pair: Pair, row: SplitRow) -> PlacedPair:
    """A pair with the split that it fell into."""
    own = {field.name: getattr(pair, field.name) for field in fields(Pair)}
    return PlacedPair(**own, split=row.split, category=pair.metadata.get(CATEGORY))


def to_conversation(pair: Pair) -> Conversation:
    """A pair as one question and its answer."""
    return single_turn(pair.pair_id, image_ids=pair.image_ids, request=pair.request, response=pair.response)


def single_turn(pair_id: str, *, image_ids: tuple[str, ...], request: str, response: str) -> Conversation:
    """One question about pictures and its answer, the pictures before the text."""
    question: list[Content] = [{"type": "image"} for _ in image_ids]
    question.append({"type": "text", "text": request.strip()})
    answer: list[Content] = [{"type": "text", "text": response.strip()}]
    messages: tuple[Message, ...] = ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
    return Conversation(pair_id=pair_id, image_ids=image_ids, messages=messages)


def to_reference(pair: Pair, row: SplitRow) -> Reference:
    """What a scorer may know of a pair."""
    slices = {key: pair.metadata[key] for key in SLICES if pair.metadata.get(key)}
    return Reference(
        pair_id=pair.pair_id, dataset=pair.dataset, split=row.split, group_id=row.group_id, language=pair.language,
        licence=pair.licence, request=pair.request.strip(), response=pair.response.strip(), expected=pair.expected,
        slices={**slices, "language": pair.language},
        glyph_height_pixels=_glyph_height_pixels(pair), labels=_labels(pair),
    )  # fmt: skip


def _labels(pair: Pair) -> tuple[str, ...]:
    declared = pair.metadata.get(ANSWER_LABELS, "")
    return tuple(label.strip() for label in declared.split("|")) if declared else ()


def _glyph_height_pixels(pair: Pair) -> float | None:
    text = pair.metadata.get(GLYPH_HEIGHT)
    if text is None:
        return None
    try:
        return float(text)
    except ValueError as error:
        do = f"make the reader of {pair.dataset} write a number of pixels, or leave the key out"
        raise MedVLError(found=f"{GLYPH_HEIGHT} = {text[:20]!r}", where=f"metadata of {pair.pair_id}", do=do) from error


def write_chat(directory: Path, split_directory: Path, validated: Mapping[str, Path]) -> dict[str, Fact]:
    """Write one file of conversations per split, and the references; returns how many there are of each."""
    rows = split_directory / SPLIT
    write_json(directory / COUNTS, {"num_pairs": num_rows(rows)})
    facts: dict[str, Fact] = dict.fromkeys((f"num_{split}" for split in SPLITS), 0)
    num_images = 0
    with ExitStack() as stack:
        files = {
            split: stack.enter_context(conversations_path(directory, split).open("w", encoding="utf-8", newline="\n")) for split in SPLITS
        }
        references = stack.enter_context(TableWriter(directory / REFERENCES, Reference))
        together = stack.enter_context(TableWriter(directory / PAIRS, PlacedPair))
        for pair, row in placed(split_directory, validated):
            conversation = to_conversation(pair)
            files[row.split].write(_line(conversation))
            references.write(to_reference(pair, row))
            together.write(to_placed(pair, row))
            facts[f"num_{row.split}"] = int(facts[f"num_{row.split}"] or 0) + 1
            num_images += len(conversation.image_ids)
    return {"num_conversations": references.num_rows, "num_images": num_images, **facts}


def _line(conversation: Conversation) -> str:
    value = {"pair_id": conversation.pair_id, "images": conversation.image_ids, "messages": conversation.messages}
    return json.dumps(value, ensure_ascii=False) + "\n"


def conversations_path(directory: Path, split: str) -> Path:
    """The file of one split's conversations."""
    return directory / f"{split}.jsonl"


def read_conversations(path: Path) -> Iterator[Conversation]:
    """The conversations of a file in order, one at a time; raises MedVLError with the line that is none."""
    with path.open(encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                value: dict[str, Any] = json.loads(line)
                yield Conversation(pair_id=value["pair_id"], image_ids=tuple(value["images"]), messages=tuple(value["messages"]))
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                do = "materialize the chat again; by hand, write one JSON object with pair_id, images and messages a line"
                raise MedVLError(found=f"{type(error).__name__}: {error}", where=f"{path}:{number}", do=do) from error


def num_placeholders(conversation: Conversation) -> int:
    """How many places for pictures the messages have."""
    return sum(part["type"] == "image" for message in conversation.messages for part in message["content"])


def _all_conversations(directory: Path) -> Iterator[Conversation]:
    for split in SPLITS:
        yield from read_conversations(conversations_path(directory, split))


def every_pair_became_a_conversation(directory: Path) -> Outcome:
    """As many conversations, references and rows as the split has pairs, and each split's in the same order as its references."""
    expected = int(read_json(directory / COUNTS)["num_pairs"])
    wrong: list[str] = []
    num_found = 0
    question = "select pair_id from read_parquet($references) where split = $split"
    for split in SPLITS:
        references = (str(row[0]) for row in stream(question, references=directory / REFERENCES, split=split))
        found = (conversation.pair_id for conversation in read_conversations(conversations_path(directory, split)))
        for reference_id, pair_id in zip_longest(references, found):
            num_found += pair_id is not None
            if reference_id != pair_id:
                wrong.append(str(reference_id or pair_id))
    wrong = wrong or ([] if num_found == expected else ["counts.json"]) or ([] if num_rows(directory / PAIRS) == expected else [PAIRS])
    return Outcome(passed=not wrong, found=f"{num_found} conversations of {expected} pairs", offenders=tuple(wrong[:10]))


def roles_alternate_and_end_with_the_assistant(directory: Path) -> Outcome:
    """User, assistant, user, assistant: the last word is the answer."""
    turns: tuple[Role, Role] = ("user", "assistant")
    offenders = [
        conversation.pair_id
        for conversation in _all_conversations(directory)
        if not conversation.messages
        or len(conversation.messages) % 2
        or any(message["role"] != turns[index % 2] for index, message in enumerate(conversation.messages))
    ]
    return outcome(offenders, "conversations do not alternate between user and assistant")


def every_image_has_its_placeholder(directory: Path) -> Outcome:
    """As many places for pictures as pictures, none of them in an answer."""
    offenders = [
        conversation.pair_id
        for conversation in _all_conversations(directory)
        if num_placeholders(conversation) != len(conversation.image_ids)
        or any(
            part["type"] == "image" for message in conversation.messages if message["role"] == "assistant" for part in message["content"]
        )
    ]
    return outcome(offenders, "conversations have not one place per picture")


def every_answer_is_trimmed_text(directory: Path) -> Outcome:
    """The last message is one text, not empty, without white space around it."""
    offenders: list[str] = []
    for conversation in _all_conversations(directory):
        texts = [part.get("text", "") for message in conversation.messages[-1:] for part in message["content"]]
        if len(texts) != 1 or not texts[0] or texts[0] != texts[0].strip():
            offenders.append(conversation.pair_id)
    return outcome(offenders, "answers are empty or have white space around them")


RULES = (
    columns_are_as_declared({REFERENCES: Reference, PAIRS: PlacedPair}),
    rule(every_pair_became_a_conversation, "Every pair of the split became exactly one conversation and one reference."),
    rule(roles_alternate_and_end_with_the_assistant, "Roles alternate, beginning with the user and ending with the assistant."),
    rule(every_image_has_its_placeholder, "Every picture has its place in a user message."),
    rule(every_answer_is_trimmed_text, "Every answer is a text without white space around it."),
)
