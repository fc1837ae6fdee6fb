"""Conversations -> tensors: the one place where labels are masked.

In: conversations, the image store and a family's processor. Out: batches with every tensor that the processor made. The processor owns
its family's extra tensors; here they are only stacked, and the labels cut to the answer and its end token. Whoever changes what is computed
here raises the revisions of ``training.recipe`` and ``evaluation.spec``, which the graph can read without torch.

Legend: B batch, T tokens (right-padded for training, left-padded for generation), N image patches.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medvl_lib.chat import Conversation
from medvl_lib.errors import MedVLError
from medvl_lib.evaluation.predictions import Condition
from medvl_lib.images import Pictures, rgb_pixels
from medvl_lib.prompts import PromptFormat, render_opening, render_prompt, render_target, split_answer

IGNORE_INDEX = -100  # torch.nn.functional.cross_entropy skips it


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """What turns a family's conversations into tensors: its processor, the words of its prompts, and the pictures."""

    processor: Any
    prompts: PromptFormat
    images: Pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Collator:
    """What the trainer calls with rows of its dataset; a row names its conversation by ``index``."""

    reader: Reader
    conversations: Sequence[Conversation]

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Rows -> tensors with ``labels`` (B, T), -100 everywhere but on answer and end token."""
        return training_batch(self.reader, [self.conversations[row["index"]] for row in rows])


def training_batch(reader: Reader, conversations: Sequence[Conversation]) -> dict[str, torch.Tensor]:
    """Prompt, answer and end token of each conversation, padded on the right, with labels (B, T)."""
    texts, targets = [], []
    for conversation in conversations:
        before, answer = split_answer(conversation.messages)
        targets.append(render_target(reader.prompts, answer))
        texts.append(render_prompt(reader.prompts, before) + targets[-1])
    batch = _process(reader, texts, conversations, side="right")
    answers = [reader.processor.tokenizer(target, add_special_tokens=False)["input_ids"] for target in targets]
    batch["labels"] = answer_labels(batch["input_ids"], batch["attention_mask"], answers, [item.pair_id for item in conversations])
    return batch


def answer_labels(
    input_ids: torch.Tensor, attention_mask: torch.Tensor, answers: Sequence[Sequence[int]], pair_ids: Sequence[str]
) -> torch.Tensor:
    """Labels (B, T): the last tokens of each row that are its answer and end token, -100 on prompt, picture and padding.

    Padding is found by the attention mask, never by id: the end token may be the padding token. Raises MedVLError when a row does not
    end with its answer's tokens (the tokenizer merged across the border, or something was cut).
    """
    labels = torch.full_like(input_ids, IGNORE_INDEX)
    for row, (answer, pair_id) in enumerate(zip(answers, pair_ids, strict=True)):
        end = int(attention_mask[row].sum())
        start = end - len(answer)
        if input_ids[row, start:end].tolist() != list(answer):
            raise MedVLError(
                found=f"the last {len(answer)} tokens are not the answer's", where=f"pair {pair_id}",
                do="check that the answer does not begin with blanks and that max_tokens of [lines.<line>.audit] is not exceeded",
            )  # fmt: skip
        labels[row, start:end] = input_ids[row, start:end]
    return labels


def prompt_batch(reader: Reader, conversations: Sequence[Conversation], condition: Condition = "as_is") -> dict[str, torch.Tensor]:
    """Prompts alone, padded on the left so that generation goes on at the end.

    ``blank_image`` and ``noise_image`` show gray or noise of the pictures' sizes; whose pictures are shown is decided in ``predict``.
    """
    texts = [render_opening(reader.prompts, split_answer(conversation.messages)[0]) for conversation in conversations]
    return _process(reader, texts, conversations, side="left", condition=condition)


def _process(
    reader: Reader, texts: list[str], conversations: Sequence[Conversation], *, side: str, condition: Condition = "as_is"
) -> dict[str, torch.Tensor]:
    reader.processor.tokenizer.padding_side = side
    pictures = [_picture(reader.images, image_id, condition) for item in conversations for image_id in item.image_ids]
    as_they_are = {"do_convert_rgb": False, "input_data_format": "channels_last"} if pictures else {}  # or it would hold each once more
    return dict(
        reader.processor(text=texts, images=pictures or None, padding=True, add_special_tokens=False, return_tensors="pt", **as_they_are)
    )


def _picture(images: Pictures, image_id: str, condition: Condition) -> NDArray[np.uint8]:
    """The pixels (H, W, 3) that are shown."""
    pixels = rgb_pixels(images.read(image_id))
    if condition == "blank_image":
        return np.full_like(pixels, 127)
    if condition == "noise_image":
        seed = int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:4], "big")  # the same noise whenever it is asked for
        return np.random.RandomState(seed).randint(0, 256, pixels.shape, dtype=np.uint8)
    return pixels
