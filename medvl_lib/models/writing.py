"""Answers that are written together, whoever came when: a question that comes joins at the next token, and an answer that ends makes room.

In: a model that torch computes, batches of prompts, and who hears each answer. Out: tokens, told one by one. What a batch costs per token
hardly depends on its rows, so a batch that is kept full answers more than one that waits for its longest; and who comes waits for a token
instead of for the batch before. How rows are held is ``models.decoding``'s; who may join, and when, whoever asks has to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from transformers import GenerationConfig, PreTrainedModel

from medvl_lib.models.decoding import Rows, joined, kept, next_token, opened


class Hearer(Protocol):
    """Who hears one answer while it is written."""

    def begin(self, num_prompt_tokens: int) -> None:
        """The question is read: so many tokens, without padding."""
        ...

    def goes_on(self, token: int) -> bool:
        """The next token, and whether another one is wanted; after the end token, or a no, nothing more is heard."""
        ...

    def put_off(self, error: Exception) -> None:
        """The question could not be read beside the answers that were being written, for this reason; nothing was heard of it."""
        ...


@dataclass(slots=True)
class _Answer:
    """Whose answer a row is, and how long it is."""

    hearer: Hearer
    num_tokens: int = 0


class Writing:
    """The answers that a model writes now; for one thread, under ``torch.inference_mode``."""

    def __init__(self, model: PreTrainedModel, greedy: GenerationConfig) -> None:
        """``greedy`` are the settings of ``generate``: no answer is longer than its ``max_new_tokens``."""
        self._model, self._greedy = model, greedy
        model.generation_config = greedy  # what ``generate`` takes where its own settings say nothing
        self._rows: Rows | None = None
        self._answers: list[_Answer] = []

    @property
    def num_answers(self) -> int:
        """Those that have not ended."""
        return len(self._answers)

    def read(self, batch: Mapping[str, torch.Tensor]) -> Rows:
        """The prompts of a batch, ready to be taken. Whose answers are being written wait as long; where this raises, they go on."""
        return opened(self._model, batch, self._greedy)

    def take(self, rows: Rows, hearers: Sequence[Hearer]) -> None:
        """Let rows that were just read join, and tell each hearer its first token."""
        for hearer, num_tokens in zip(hearers, rows.mask_BT.sum(1).tolist(), strict=True):
            hearer.begin(num_tokens)
        going, answers = self._told(rows, [_Answer(hearer) for hearer in hearers])
        if going is not None:
            self._rows = going if self._rows is None else joined(self._rows, going)
            self._answers += answers

    def step(self) -> None:
        """One token more for everybody."""
        if self._rows is not None:
            self._rows, self._answers = self._told(next_token(self._model, self._rows), self._answers)

    def _told(self, rows: Rows, answers: list[_Answer]) -> tuple[Rows | None, list[_Answer]]:
        """The rows that go on after the newest token, and whose they are."""
        tokens = rows.tokens_B1[:, 0].tolist()
        going = [row for row, answer in enumerate(answers) if self._goes_on(answer, tokens[row])]
        if not going:
            return None, []
        return rows if len(going) == rows.num_rows else kept(rows, going), [answers[row] for row in going]

    def _goes_on(self, answer: _Answer, token: int) -> bool:
        answer.num_tokens += 1
        is_wanted = answer.hearer.goes_on(token)
        return is_wanted and token != self._greedy.eos_token_id and answer.num_tokens < self._greedy.max_new_tokens
