"""The audit: what the model will really see of each conversation, counted before any time on a device is spent.

In: the conversations of a line, a model directory, the image store. Out: ``audit.parquet`` with one row per conversation, and
``spec.json`` with the limits that the rules hold it to. The text is rendered by ``prompts``, pictures are sized by ``vision_tokens``
and tokens are made by the model's own ``tokenizer.json``: no torch, no transformers, no weights. Tensors and label masks are made
in ``batches``, from the same functions.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Annotated

from tokenizers import Encoding, Tokenizer

from medvl_lib.chat import Conversation, conversations_path, read_conversations
from medvl_lib.errors import MedVLError
from medvl_lib.evaluation.predictions import REFERENCES
from medvl_lib.files import read_json, write_json
from medvl_lib.images import ImageStore, rgb_pixels
from medvl_lib.pairs import SPLITS, Split
from medvl_lib.prompts import PromptFormat, expand_images, read_prompt_format, render_prompt, render_target, split_answer
from medvl_lib.provenance import Fact, Outcome
from medvl_lib.rules import columns_are_as_declared, no_rows, rule, stream
from medvl_lib.tables import Column, TableWriter
from medvl_lib.vision_tokens import SeenPicture, Sizing, read_sizing

REVISION = 1  # first version; raised too when prompts or vision_tokens compute something else
AUDIT = "audit.parquet"
SPEC = "spec.json"
BATCH_CONVERSATIONS = 64  # tokenized together; their pictures are decoded in parallel
REMEMBERED_SIZES = 65_536  # pictures whose size is kept: many questions about one picture decode it once


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
class AuditedPicture:
    """One picture, before and after the processor's resizing."""

    image_id: Annotated[str, Column("SHA-256 of the stored bytes")]
    width_pixels: Annotated[int, Column("width of the upright picture", unit="pixels")]
    height_pixels: Annotated[int, Column("height of the upright picture", unit="pixels")]
    seen_width_pixels: Annotated[int, Column("width that the model sees", unit="pixels")]
    seen_height_pixels: Annotated[int, Column("height that the model sees", unit="pixels")]
    num_tokens: Annotated[int, Column("tokens that it fills", unit="tokens")]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """One conversation as the model will see it."""

    pair_id: Annotated[str, Column("the pair")]
    split: Annotated[Split, Column("the split it fell into")]
    num_tokens: Annotated[int, Column("tokens of the whole conversation", unit="tokens")]
    num_prompt_tokens: Annotated[int, Column("tokens that are read and never trained on, image tokens included", unit="tokens")]
    num_target_tokens: Annotated[int, Column("tokens that are trained on: the answer and its end token", unit="tokens")]
    num_image_tokens: Annotated[int, Column("image tokens found in the whole conversation", unit="tokens")]
    num_foreign_special_tokens: Annotated[int, Column("special tokens of the model that stand in the texts themselves", unit="tokens")]
    glyph_height_pixels: Annotated[float | None, Column("height of a lower-case x as the model sees it; null if unknown", unit="pixels")]
    pictures: Annotated[tuple[AuditedPicture, ...], Column("each picture before and after resizing")]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Eye:
    """Everything that stands between a conversation and the model."""

    prompt_format: PromptFormat
    tokenizer: Tokenizer
    sizing: Sizing
    upright_size: Callable[[str], tuple[int, int]]


def write_audit(
    directory: Path, chat_directory: Path, model_directory: Path, images: ImageStore, spec: AuditSpec, *, max_pixels: int
) -> dict[str, Fact]:
    """Write one row per conversation; returns totals, the extremes and the ids of three examples.

    ``max_pixels`` is the model's: the most pixels (height x width) that its processor is told to keep of a picture.
    """
    write_json(directory / SPEC, {**dataclasses.asdict(spec), "max_pixels": max_pixels})
    eye = _open_eye(model_directory, images, max_pixels)
    with TableWriter(directory / AUDIT, AuditRow) as writer:
        for split in SPLITS:
            for row in _audit_rows(split, chat_directory, eye):
                writer.write(row)
    return _facts(directory / AUDIT)


def _open_eye(model_directory: Path, images: ImageStore, max_pixels: int) -> _Eye:
    prompt_format = read_prompt_format(model_directory)
    tokenizer = Tokenizer.from_file(str(model_directory / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    @lru_cache(maxsize=REMEMBERED_SIZES)
    def upright_size(image_id: str) -> tuple[int, int]:
        height, width, _ = rgb_pixels(images.read(image_id)).shape
        return height, width

    return _Eye(
        prompt_format=prompt_format, tokenizer=tokenizer,
        sizing=read_sizing(model_directory, max_pixels=max_pixels), upright_size=upright_size,
    )  # fmt: skip


def _audit_rows(split: Split, chat_directory: Path, eye: _Eye) -> Iterator[AuditRow]:
    """The rows of one split, in the order of its conversations; few conversations at a time are in memory."""
    question = "select pair_id, glyph_height_pixels from read_parquet($references) where split = $split"
    references = stream(question, references=chat_directory / REFERENCES, split=split)
    conversations = read_conversations(conversations_path(chat_directory, split))
    with ThreadPoolExecutor() as pool:
        while batch := list(islice(conversations, BATCH_CONVERSATIONS)):
            distinct = {image_id for conversation in batch for image_id in conversation.image_ids}
            list(pool.map(eye.upright_size, distinct))
            heights = list(islice(references, len(batch)))
            if [pair_id for pair_id, _ in heights] != [conversation.pair_id for conversation in batch]:
                found = f"conversations from {batch[0].pair_id} to {batch[-1].pair_id} without their references beside them"
                raise MedVLError(found=found, where=str(chat_directory), do="materialize the chat again")
            yield from _audit(split, batch, [height for _, height in heights], eye)


def _audit(split: Split, batch: Sequence[Conversation], glyph_heights: Sequence[float | None], eye: _Eye) -> Iterator[AuditRow]:
    parts = [split_answer(conversation.messages) for conversation in batch]
    pictures = [[_picture(image_id, eye) for image_id in conversation.image_ids] for conversation in batch]
    prompts = [
        expand_images(render_prompt(eye.prompt_format, before), eye.prompt_format.image_token, [picture.num_tokens for picture in seen])
        for (before, _), seen in zip(parts, pictures, strict=True)
    ]
    targets = [render_target(eye.prompt_format, answer) for _, answer in parts]
    num_prompt, num_target = ([len(encoding) for encoding in _encode(eye, texts)] for texts in (prompts, targets))
    wholes = _encode(eye, [prompt + target for prompt, target in zip(prompts, targets, strict=True)])
    for index, conversation in enumerate(batch):
        yield AuditRow(
            pair_id=conversation.pair_id, split=split, num_tokens=len(wholes[index]), num_prompt_tokens=num_prompt[index],
            num_target_tokens=num_target[index], num_image_tokens=wholes[index].ids.count(eye.prompt_format.image_token_id),
            num_foreign_special_tokens=_num_foreign(conversation, eye.prompt_format), pictures=tuple(pictures[index]),
            glyph_height_pixels=_seen_height(glyph_heights[index], pictures[index]),
        )  # fmt: skip


def _encode(eye: _Eye, texts: list[str]) -> list[Encoding]:
    return eye.tokenizer.encode_batch(texts, add_special_tokens=False)  # the template writes all special tokens itself


def _picture(image_id: str, eye: _Eye) -> AuditedPicture:
    height, width = eye.upright_size(image_id)
    try:
        seen: SeenPicture = eye.sizing(height, width)
    except ValueError as error:
        do = "lower max_aspect_ratio in the validation limits and materialize the validated pairs again"
        raise MedVLError(found=str(error), where=f"picture {image_id}", do=do) from error
    return AuditedPicture(
        image_id=image_id, width_pixels=width, height_pixels=height, seen_width_pixels=seen.width_pixels,
        seen_height_pixels=seen.height_pixels, num_tokens=seen.num_tokens,
    )  # fmt: skip


def _num_foreign(conversation: Conversation, prompt_format: PromptFormat) -> int:
    texts = [part.get("text", "") for message in conversation.messages for part in message["content"]]
    return sum(text.count(token) for text in texts for token in prompt_format.added_tokens)


def _seen_height(glyph_height_pixels: float | None, pictures: Sequence[AuditedPicture]) -> float | None:
    if glyph_height_pixels is None or not pictures:
        return None
    return glyph_height_pixels * min(picture.seen_height_pixels / picture.height_pixels for picture in pictures)


def _facts(audit: Path) -> dict[str, Fact]:
    question = """select count(*) as num_conversations, sum(num_tokens) as num_tokens, sum(num_image_tokens) as num_image_tokens,
        sum(num_target_tokens) as num_target_tokens, max(num_tokens) as longest_tokens, min(glyph_height_pixels) as smallest_glyph_pixels,
        arg_min(pair_id, (num_tokens, pair_id)) as shortest_example, arg_min(pair_id, (-num_tokens, pair_id)) as longest_example,
        arg_min(pair_id, (-num_image_tokens, pair_id)) as largest_picture_example from read_parquet($audit)"""
    names = [str(column[0]) for column in stream(f"describe {question}", audit=audit)]
    (row,) = stream(question, audit=audit)
    return dict(zip(names, row, strict=True))


def image_tokens_are_present_and_complete(directory: Path) -> Outcome:
    """Every picture's tokens are in the text, and no others: one too few, and the model refuses the batch or reads another picture."""
    question = """select pair_id from read_parquet($audit)
        where num_image_tokens <> list_sum(list_concat([0], list_transform(pictures, lambda picture: picture.num_tokens)))"""
    return no_rows("conversations have another number of image tokens than their pictures", question, audit=directory / AUDIT)


def nothing_is_truncated(directory: Path) -> Outcome:
    """No conversation is longer than what is trained on."""
    limit = int(read_json(directory / SPEC)["max_tokens"])
    question = "select pair_id from read_parquet($audit) where num_tokens > $limit"
    return no_rows(f"conversations are longer than {limit} tokens", question, audit=directory / AUDIT, limit=limit)


def every_answer_has_target_tokens(directory: Path) -> Outcome:
    """Every answer is at least one token and its end."""
    return no_rows(
        "answers have no tokens to train on",
        "select pair_id from read_parquet($audit) where num_target_tokens < 2",
        audit=directory / AUDIT,
    )


def answers_begin_at_a_token(directory: Path) -> Outcome:
    """The tokens of prompt and answer add up to those of the whole: no token reaches over the border, so the mask is exact."""
    question = "select pair_id from read_parquet($audit) where num_tokens <> num_prompt_tokens + num_target_tokens"
    return no_rows("answers share a token with their prompt", question, audit=directory / AUDIT)


def texts_hold_no_special_tokens(directory: Path) -> Outcome:
    """No request or response contains a special token of the model: it would end a turn or stand for a picture."""
    question = "select pair_id from read_parquet($audit) where num_foreign_special_tokens > 0"
    return no_rows("texts contain special tokens of the model", question, audit=directory / AUDIT)


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


RULES = (
    columns_are_as_declared({AUDIT: AuditRow}),
    rule(image_tokens_are_present_and_complete, "Every picture has exactly its own number of image tokens in the text."),
    rule(nothing_is_truncated, "No conversation is longer than the most tokens that are trained on."),
    rule(every_answer_has_target_tokens, "Every answer gives at least one token and its end token to learn."),
    rule(answers_begin_at_a_token, "The answer begins where a token begins, so that exactly the answer is trained on."),
    rule(texts_hold_no_special_tokens, "No request or response contains a special token of the model."),
    rule(pictures_are_within_the_pixel_budget, "No picture is shown with more pixels than the budget."),
    rule(text_is_legible, "Letters of known height stay tall enough to read after resizing."),
)
