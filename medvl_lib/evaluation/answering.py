"""Answers: what one variant says to some conversations, greedily, in batches.

In: loaded weights, and which adapter on them speaks. Out: ``Prediction`` rows with their wall time. Which variants there are, and in which
order they speak, is ``predict``'s business; what they need is ``footprint``'s.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from medvl_lib.batches import Reader, prompt_batch
from medvl_lib.chat import Conversation
from medvl_lib.evaluation.predictions import Condition, Prediction, Variant
from medvl_lib.evaluation.spec import EvaluationSpec
from medvl_lib.hardware import Profile
from medvl_lib.images import Pictures
from medvl_lib.models.ahead import Ahead, Coming, Prompts, looked_at
from medvl_lib.models.computing import computing
from medvl_lib.models.decoding import roomy_cache
from medvl_lib.models.loading import DTYPES, Loaded
from medvl_lib.models.writing import Hearer, Writing
from medvl_lib.parts import Part

WARM_UP_TOKENS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What one variant is made of."""

    variant: Variant
    directory: Path
    adapter: Path | None
    data_version: str
    """Hash of the weights, the adapter's included."""


def nobody(num_answers: int) -> Iterator[Coming]:
    """Who joins answers that are being written: nobody."""
    del num_answers
    yield from ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """A variant that can be asked: loaded weights, perhaps with one of the adapters that were put on them."""

    variant: Variant
    condition: Condition
    loaded: Loaded
    evaluation: EvaluationSpec
    images: Pictures
    profile: Profile
    adapter: str | None = None
    """Name of the adapter that speaks; without one the weights speak as they are, whatever was put on them."""

    def answers(self, groups: Iterable[Sequence[Conversation]], part: Part | None = None) -> Iterator[Prediction]:
        """Answers to every group, batch by batch, after a short one that is discarded; of a part, to its batches alone."""
        every = enumerate(batches(groups, self.profile.prediction_batch))
        mine = every if part is None else islice(every, part.number, None, part.of)
        for place, (batch_id, batch) in enumerate(mine):
            if place == 0:
                self.warm_up(batch)
            yield from self.answer(batch, batch_id)

    def warm_up(self, conversations: Sequence[Conversation]) -> None:
        """A short answer that fills caches and is not kept."""
        self._generate(self.prompts(conversations[:1]), WARM_UP_TOKENS)

    def answer(self, conversations: Sequence[Conversation], batch_id: int) -> Iterator[Prediction]:
        """One batch, timed from the stored pictures to the last token."""
        started = time.perf_counter()
        batch = self.prompts(conversations)
        output_BT = self._generate(batch, self.evaluation.max_answer_tokens)  # noqa: N806 (shape suffix)
        seconds = (time.perf_counter() - started) / len(conversations)
        answers_BT = output_BT[:, batch["input_ids"].shape[1] :]  # noqa: N806
        for row, conversation in enumerate(conversations):
            yield self.prediction(
                conversation, answers_BT[row].tolist(), num_prompt_tokens=int(batch["attention_mask"][row].sum()), batch_id=batch_id,
                batch_size=len(conversations), seconds=seconds,
            )  # fmt: skip

    def prediction(
        self, conversation: Conversation, ids: Sequence[int], *, num_prompt_tokens: int, batch_id: int, batch_size: int, seconds: float
    ) -> Prediction:
        """What the tokens of an answer say, up to the end token where there is one."""
        tokenizer = self.loaded.processor.tokenizer
        is_cut = tokenizer.eos_token_id not in ids
        length = len(ids) if is_cut else ids.index(tokenizer.eos_token_id) + 1
        return Prediction(
            pair_id=conversation.pair_id, variant=self.variant, condition=self.condition,
            answer=tokenizer.decode(ids[:length], skip_special_tokens=True), num_prompt_tokens=num_prompt_tokens, num_answer_tokens=length,
            is_cut=is_cut, batch_id=batch_id, batch_size=batch_size, latency_seconds=seconds,
        )  # fmt: skip

    def tell(
        self, first: Callable[[], Prompts], hearers: Sequence[Hearer], joining: Callable[[int], Iterable[Coming]] = nobody,
        most: int | None = None,
    ) -> None:  # fmt: skip
        """Write a batch, which ``first`` reads, each row's tokens told to its hearer; it ends when nobody wants more of its own.

        ``joining`` is asked before each token who comes, with the number of answers that are being written and of questions that are being
        read: these are read beside the answers, and join them as soon as fewer than ``most`` are written. Where torch does not compute,
        nobody can join, and it is not asked.
        """
        batch = first()
        if computing(self.loaded.model) is not None:
            for hearer, num_tokens in zip(hearers, batch["attention_mask"].sum(1).tolist(), strict=True):
                hearer.begin(num_tokens)
            self._generate(batch, self.evaluation.max_answer_tokens, hearers=hearers)
            return
        most = self.profile.prediction_batch if most is None else most
        with self._speaking() as model, Ahead() as ahead:
            writing = Writing(model, self._greedy(self.evaluation.max_answer_tokens))
            writing.take(writing.read(self._on_device(batch)), hearers)
            del batch  # others may join for hours
            while writing.num_answers or ahead:
                self._let_come(ahead, joining(writing.num_answers + len(ahead)))
                while writing.num_answers < most and self._let_join(writing, ahead.ready(waits=not writing.num_answers)):
                    pass
                writing.step()

    def _let_come(self, ahead: Ahead, several: Iterable[Coming]) -> None:
        for coming in several:
            ahead.read(coming._replace(read=partial(self._read_ahead, coming.read)))

    def _read_ahead(self, read: Callable[[], Prompts | None]) -> Prompts | None:
        """What a question is for the model; by another thread than that of ``tell``, while the same one speaks."""
        prompts = read()
        if prompts is None:
            return None
        with torch.inference_mode(), self._numbers():
            return looked_at(bare(self.loaded.model), prompts)

    def _let_join(self, writing: Writing, coming: Coming | None) -> bool:
        """Take the question, where it could be read and somebody still waits for its answer; whether there was one."""
        if coming is None:
            return False
        try:
            prompts = coming.read()
            rows = None if prompts is None else writing.read(self._on_device(prompts))
        except Exception as error:  # of whatever kind: a picture that is none, or no memory beside so many others
            coming.hearer.put_off(error)
        else:
            if rows is not None:
                writing.take(rows, [coming.hearer])
        finally:
            del coming  # it holds the error, whose traceback holds this frame
        return True

    def fill(self, conversations: Sequence[Conversation], num_tokens: int) -> None:
        """Read a batch and write exactly ``num_tokens`` tokens to each, whatever they say: what memory is measured with."""
        self._generate(self.prompts(conversations), num_tokens, min_new_tokens=num_tokens)

    def prompts(self, conversations: Sequence[Conversation]) -> Mapping[str, torch.Tensor]:
        """Tensors of a batch of questions, padded on the left; for one thread at a time, since a tokenizer is."""
        reader = Reader(processor=self.loaded.processor, prompts=self.loaded.prompts, images=self.images)
        return prompt_batch(reader, conversations, self.condition)

    def _as_itself(self) -> AbstractContextManager[None]:
        model = self.loaded.model
        if not isinstance(model, PeftModel):
            return nullcontext()
        if self.adapter is None:
            return model.disable_adapter()
        model.set_adapter(self.adapter)
        return nullcontext()

    @contextmanager
    def _speaking(self) -> Generator[PreTrainedModel, None, None]:
        """The model with its adapter, in the profile's numbers."""
        with self._as_itself(), torch.inference_mode(), self._numbers():
            yield bare(self.loaded.model)

    def _numbers(self) -> AbstractContextManager[object]:
        """The profile's, for this thread."""
        dtype = DTYPES[self.profile.weights_dtype]
        return nullcontext() if dtype == torch.float32 else torch.autocast(self.loaded.model.device.type, dtype)

    def _on_device(self, batch: Prompts) -> dict[str, Any]:
        """On the profile's device; on the CPU where another engine computes."""
        device = self.loaded.model.device
        return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}

    def _greedy(self, max_tokens: int, min_new_tokens: int | None = None) -> GenerationConfig:
        """Nothing is taken from the checkpoint's own settings: Qwen2.5-VL ships a repetition penalty, which punishes the exact
        transcription of a unit that stands on every line.
        """
        tokenizer = self.loaded.processor.tokenizer
        return GenerationConfig(
            max_new_tokens=max_tokens, min_new_tokens=min_new_tokens, do_sample=False, num_beams=1, repetition_penalty=1.0, use_cache=True,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip

    def _generate(
        self, batch: Mapping[str, torch.Tensor], max_tokens: int, min_new_tokens: int | None = None, hearers: Sequence[Hearer] = ()
    ) -> torch.Tensor:
        """Tokens (B, T) of prompt and answer."""
        greedy = self._greedy(max_tokens, min_new_tokens)
        end_token_id = self.loaded.processor.tokenizer.eos_token_id
        cache = {} if computing(self.loaded.model) is not None else {"past_key_values": roomy_cache()}
        with self._speaking() as model:
            model.generation_config = greedy
            output = model.generate(
                **self._on_device(batch), generation_config=greedy, **cache,
                stopping_criteria=StoppingCriteriaList([_Heard(hearers, end_token_id)] if hearers else []),
            )  # fmt: skip
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        return output


def bare(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The library's model, with whatever adapters are in it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


class _Heard(StoppingCriteria):
    """Tells every row's hearer its tokens, and ends the rows of which no more is wanted; the others go on as if they were still there."""

    def __init__(self, hearers: Sequence[Hearer], end_token_id: int) -> None:
        self._hearers, self._end_token_id = hearers, end_token_id
        self._is_over = [False] * len(hearers)

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        for row, token in enumerate(input_ids[:, -1].tolist()):
            if not self._is_over[row]:
                self._is_over[row] = not self._hearers[row].goes_on(token) or token == self._end_token_id
        return torch.tensor(self._is_over, device=input_ids.device)


def batches(groups: Iterable[Sequence[Conversation]], size: int) -> Iterator[Sequence[Conversation]]:
    """Each group in batches of at most ``size``; no batch holds conversations of two groups."""
    for group in groups:
        for start in range(0, len(group), size):
            yield group[start : start + size]
