"""Tokenization: conversations -> the token ids that a model reads, and those ids -> text again. No torch, no transformers, no weights.

In: conversations, a model directory, the image store. Out: ``Tokenized`` conversations, their ids decoded by the model's own tokenizer,
and how many of their texts the ids no longer say. Decoded from ids, never from what was rendered: a template that drops a text, or a
tokenizer that cannot write a character, shows. What is wrong with it is judged by ``audit``; tensors are made in ``batches``.
"""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Annotated

from tokenizers import Encoding, Tokenizer

from medvl_lib.chat import Conversation
from medvl_lib.errors import MedVLError
from medvl_lib.images import Pictures, rgb_pixels
from medvl_lib.prompts import PromptFormat, expand_images, read_prompt_format, render_opening, render_prompt, render_target, split_answer
from medvl_lib.tables import Column
from medvl_lib.vision_tokens import SeenPicture, Sizing, read_sizing

REVISION = 1  # first version
REMEMBERED_SIZES = 65_536  # pictures whose size is kept: many questions about one picture decode it once


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizedPicture:
    """One picture, before and after the processor's resizing."""

    image_id: Annotated[str, Column("SHA-256 of the stored bytes")]
    width_pixels: Annotated[int, Column("width of the upright picture", unit="pixels")]
    height_pixels: Annotated[int, Column("height of the upright picture", unit="pixels")]
    seen_width_pixels: Annotated[int, Column("width that the model sees", unit="pixels")]
    seen_height_pixels: Annotated[int, Column("height that the model sees", unit="pixels")]
    num_tokens: Annotated[int, Column("tokens that it fills", unit="tokens")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenized:
    """A conversation as a model will read it."""

    conversation: Conversation
    ids: Sequence[int]
    """Its tokens, prompt and target together."""
    num_prompt_tokens: int
    """Of the prompt alone; with ``num_target_tokens`` less or more than there are ids where a token reaches over the border."""
    num_target_tokens: int
    """Of the target alone: training takes so many from the end."""
    has_exact_target: bool
    """Whether the tokens at the end are the target's own, as training demands."""
    pictures: tuple[TokenizedPicture, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReader:
    """Everything that stands between a conversation and a model."""

    prompt_format: PromptFormat
    tokenizer: Tokenizer
    sizing: Sizing
    upright_size: Callable[[str], tuple[int, int]]
    """Image id -> height and width of the upright picture; remembers them, and may be called from several threads."""


def open_reader(model_directory: Path, images: Pictures, *, max_pixels: int) -> ModelReader:
    """What a model directory makes of conversations; a truncation or padding left in its tokenizer file is undone."""
    prompt_format = read_prompt_format(model_directory)
    tokenizer = Tokenizer.from_file(str(model_directory / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    @lru_cache(maxsize=REMEMBERED_SIZES)
    def upright_size(image_id: str) -> tuple[int, int]:
        height, width, _ = rgb_pixels(images.read(image_id)).shape
        return height, width

    sizing = read_sizing(model_directory, max_pixels=max_pixels)
    return ModelReader(prompt_format=prompt_format, tokenizer=tokenizer, sizing=sizing, upright_size=upright_size)


def tokenize(conversations: Sequence[Conversation], reader: ModelReader) -> list[Tokenized]:
    """Conversations rendered, every picture's tokens in place, and tokenized."""
    prompt_format = reader.prompt_format
    parts = [split_answer(conversation.messages) for conversation in conversations]
    pictures = [tuple(_picture(image_id, reader) for image_id in conversation.image_ids) for conversation in conversations]
    prompts = [
        expand_images(render_prompt(prompt_format, before), prompt_format.image_token, [picture.num_tokens for picture in shown])
        for (before, _), shown in zip(parts, pictures, strict=True)
    ]
    openings = [
        expand_images(render_opening(prompt_format, before), prompt_format.image_token, [picture.num_tokens for picture in shown])
        for (before, _), shown in zip(parts, pictures, strict=True)
    ]
    targets = [render_target(prompt_format, answer) for _, answer in parts]
    wholes = [prompt + target for prompt, target in zip(prompts, targets, strict=True)]
    encoded = zip(conversations, *(_encode(reader, texts) for texts in (wholes, openings, targets)), pictures, strict=True)
    return [
        Tokenized(
            conversation=item, ids=whole.ids, num_prompt_tokens=len(prompt), num_target_tokens=len(target), pictures=shown,
            has_exact_target=whole.ids[-len(target) :] == target.ids,
        ) for item, whole, prompt, target, shown in encoded
    ]  # fmt: skip


def _encode(reader: ModelReader, texts: list[str]) -> list[Encoding]:
    return reader.tokenizer.encode_batch(texts, add_special_tokens=False)  # the template writes all special tokens itself


def _picture(image_id: str, reader: ModelReader) -> TokenizedPicture:
    height, width = reader.upright_size(image_id)
    try:
        seen: SeenPicture = reader.sizing(height, width)
    except ValueError as error:
        do = "lower max_aspect_ratio in the validation limits and materialize the validated pairs again"
        raise MedVLError(found=str(error), where=f"picture {image_id}", do=do) from error
    return TokenizedPicture(
        image_id=image_id, width_pixels=width, height_pixels=height, seen_width_pixels=seen.width_pixels,
        seen_height_pixels=seen.height_pixels, num_tokens=seen.num_tokens,
    )  # fmt: skip


def decode(ids: Sequence[int], reader: ModelReader) -> str:
    """What the ids say, special tokens written out; a run of image tokens is written once and counted: ``<|image_pad|> x 81``."""
    image_token, image_id = reader.prompt_format.image_token, reader.prompt_format.image_token_id
    counts = [sum(1 for _ in run) for token, run in groupby(ids) if token == image_id]
    *before, tail = reader.tokenizer.decode(_without_runs(ids, image_id), skip_special_tokens=False).split(image_token)
    return "".join(f"{text}{image_token} x {count}" for text, count in zip(before, counts, strict=True)) + tail


def num_lost_texts(tokenized: Sequence[Tokenized], reader: ModelReader) -> list[int]:
    """How many texts of each conversation its ids no longer say: the answer, which must end them with its end token, and all before it.

    Compared by canonical equivalence: Qwen's tokenizer composes accents (NFC), and a composed letter is the same letter.
    """
    folded = [_without_runs(each.ids, reader.prompt_format.image_token_id) for each in tokenized]
    said = reader.tokenizer.decode_batch(folded, skip_special_tokens=False)
    return [_num_lost(_composed(text), each.conversation, reader.prompt_format) for text, each in zip(said, tokenized, strict=True)]


def _num_lost(said: str, conversation: Conversation, prompt_format: PromptFormat) -> int:
    before, answer = split_answer(conversation.messages)
    target = _composed(render_target(prompt_format, answer))
    prompt = said.removesuffix(target)
    num_lost, start = int(not said.endswith(target)), 0
    for text in (_composed(part.get("text", "")) for message in before for part in message["content"]):
        place = prompt.find(text, start)  # each behind the one before: a short question that is lost may stand in another text
        num_lost += place < 0
        start = start if place < 0 else place + len(text)
    return num_lost


def _without_runs(ids: Sequence[int], token_id: int) -> list[int]:
    """The ids with every run of one token as a single one: a picture of a thousand tokens is not decoded a thousand times."""
    return [token for index, token in enumerate(ids) if not (token == token_id and index and ids[index - 1] == token_id)]


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
