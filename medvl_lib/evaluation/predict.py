"""Predictions: what each variant says to each held-out pair, all by one process.

In: the chat directory, the verified weights, an adapter, the pictures. Out: ``predictions.parquet`` with the text that came out,
``variants.parquet`` with what it took, and the references they will be scored against. Scoring does not belong here.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from peft import PeftModel
from transformers import GenerationConfig

from medvl_lib.batches import Reader, prompt_batch
from medvl_lib.chat import Conversation, conversations_path, read_conversations
from medvl_lib.evaluation.floors import floor_predictions
from medvl_lib.evaluation.predictions import (
    PREDICTIONS,
    REFERENCES,
    VARIANTS,
    Condition,
    Prediction,
    Reference,
    Variant,
    VariantMeasurement,
)
from medvl_lib.evaluation.spec import EvaluationSpec
from medvl_lib.hardware import Profile, peak_memory_bytes
from medvl_lib.images import Pictures
from medvl_lib.models.loading import Loaded, load, num_parameters, resident_bytes
from medvl_lib.models.spec import ModelSpec
from medvl_lib.provenance import Fact, digest
from medvl_lib.tables import TableWriter, read_table, write_table

Report = Callable[[Mapping[str, Fact]], None]
WARM_UP_TOKENS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What one variant is made of."""

    variant: Variant
    directory: Path
    adapter: Path | None
    data_version: str
    """Hash of the weights, the adapter's included."""


def write_predictions(
    directory: Path, *, weights: Sequence[Weights], spec: ModelSpec, evaluation: EvaluationSpec, chat: Path, images: Pictures,
    profile: Profile, report: Report,
) -> dict[str, Fact]:  # fmt: skip
    """Let every variant and floor answer every chosen pair."""
    groups = list(parts(chat, evaluation))
    wanted = {conversation.pair_id for group in groups for conversation in group}
    references = list(read_table(chat / REFERENCES, Reference))
    held_out = [reference for reference in references if reference.pair_id in wanted]
    training = [reference for reference in references if reference.split == "train"]
    write_table(directory / REFERENCES, Reference, held_out)
    measurements: list[VariantMeasurement] = []
    with TableWriter(directory / PREDICTIONS, Prediction) as predictions:
        for prediction in floor_predictions(training, held_out, evaluation.seed):
            predictions.write(prediction)
        for item in weights:
            loaded = load(item.directory, spec, profile, adapter=item.adapter)
            conditions: tuple[Condition, ...] = ("as_is", *evaluation.controls) if item.adapter else ("as_is",)
            for condition in conditions:
                speaker = Speaker(
                    variant=item.variant, condition=condition, loaded=loaded, evaluation=evaluation, images=images, profile=profile
                )
                for prediction in speaker.answers(shuffled(groups) if condition == "shuffled_image" else groups):
                    predictions.write(prediction)
                    report({"variant": item.variant, "condition": condition, "num_answers": predictions.num_rows})
            measurements.append(_measure(item, loaded, spec))
            del loaded
    write_table(directory / VARIANTS, VariantMeasurement, measurements)
    return {"num_predictions": predictions.num_rows, "num_pairs": len(held_out), "num_variants": len(measurements)}


def parts(chat: Path, evaluation: EvaluationSpec) -> Iterator[list[Conversation]]:
    """The conversations to answer, a list for each dataset and split: answers of different lengths are not timed together.

    All of the evaluated splits and datasets, or of each list the first by a seeded hash of their ids.
    """
    for split in evaluation.splits:
        by_dataset: dict[str, list[Conversation]] = defaultdict(list)
        for conversation in read_conversations(conversations_path(chat, split)):
            by_dataset[conversation.dataset].append(conversation)
        chosen = [items for name, items in by_dataset.items() if not evaluation.datasets or name in evaluation.datasets]
        for items in chosen:
            ordered = sorted(items, key=lambda item: digest([evaluation.seed, item.pair_id]))
            yield ordered[: evaluation.max_pairs_per_dataset or None]


def shuffled(groups: Sequence[Sequence[Conversation]]) -> list[list[Conversation]]:
    """Each conversation with the pictures of the next one that has as many, and others; where there is none, it is left out."""
    pools: dict[int, dict[tuple[str, ...], None]] = defaultdict(dict)
    for group in groups:
        for item in group:
            pools[len(item.image_ids)][item.image_ids] = None
    following: dict[tuple[str, ...], tuple[str, ...]] = {}
    for pictures in map(list, pools.values()):
        following |= {} if len(pictures) < 2 else dict(zip(pictures, [*pictures[1:], pictures[0]], strict=True))
    return [[replace(item, image_ids=following[item.image_ids]) for item in group if item.image_ids in following] for group in groups]


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """A loaded variant, and how it is asked."""

    variant: Variant
    condition: Condition
    loaded: Loaded
    evaluation: EvaluationSpec
    images: Pictures
    profile: Profile

    def answers(self, groups: Iterable[Sequence[Conversation]]) -> Iterator[Prediction]:
        """Greedy answers in batches within each group, after a short one that warms caches and is discarded."""
        batch_id, is_warm = 0, False
        for group in groups:
            for start in range(0, len(group), self.profile.prediction_batch):
                batch = group[start : start + self.profile.prediction_batch]
                if not is_warm:
                    list(self._answer(batch[:1], 0, WARM_UP_TOKENS))
                    is_warm = True
                yield from self._answer(batch, batch_id, self.evaluation.max_answer_tokens)
                batch_id += 1

    def _answer(self, conversations: Sequence[Conversation], batch_id: int, max_tokens: int) -> Iterator[Prediction]:
        started = time.perf_counter()
        reader = Reader(processor=self.loaded.processor, prompts=self.loaded.prompts, images=self.images)
        batch = prompt_batch(reader, conversations, self.condition)
        output_BT = self._generate(batch, max_tokens)  # noqa: N806 (shape suffix)
        seconds = (time.perf_counter() - started) / len(conversations)
        tokenizer = self.loaded.processor.tokenizer
        answers_BT = output_BT[:, batch["input_ids"].shape[1] :]  # noqa: N806
        for row, conversation in enumerate(conversations):
            ids = answers_BT[row].tolist()
            is_cut = tokenizer.eos_token_id not in ids
            length = len(ids) if is_cut else ids.index(tokenizer.eos_token_id) + 1
            yield Prediction(
                pair_id=conversation.pair_id, variant=self.variant, condition=self.condition,
                answer=tokenizer.decode(ids[:length], skip_special_tokens=True),
                num_prompt_tokens=int(batch["attention_mask"][row].sum()), num_answer_tokens=length, is_cut=is_cut,
                batch_id=batch_id, batch_size=len(conversations), latency_seconds=seconds,
            )  # fmt: skip

    def _generate(self, batch: Mapping[str, torch.Tensor], max_tokens: int) -> torch.Tensor:
        """Tokens (B, T) of prompt and answer. Nothing is taken from the checkpoint's own generation settings: Qwen2.5-VL ships a
        repetition penalty, which punishes the exact transcription of a unit that stands on every line.
        """
        tokenizer, model = self.loaded.processor.tokenizer, self.loaded.model
        greedy = GenerationConfig(
            max_new_tokens=max_tokens, do_sample=False, num_beams=1, repetition_penalty=1.0, use_cache=True,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        (model.get_base_model() if isinstance(model, PeftModel) else model).generation_config = greedy
        device = self.profile.device
        is_half = self.profile.weights_dtype == "bfloat16"
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16) if is_half else nullcontext():
            output = model.generate(**{name: tensor.to(device) for name, tensor in batch.items()}, generation_config=greedy)
        if device == "cuda":
            torch.cuda.synchronize()
        return output


def _measure(item: Weights, loaded: Loaded, spec: ModelSpec) -> VariantMeasurement:
    total, quantized = num_parameters(loaded.model)
    model = f"{spec.hub_id}@{spec.revision or item.data_version}"  # weights without a commit are called by their contents
    return VariantMeasurement(
        variant=item.variant, model=model, weights_data_version=item.data_version,
        precision=loaded.precision, num_parameters=total, num_quantized_parameters=quantized, load_seconds=loaded.load_seconds,
        memory_after_load_bytes=resident_bytes(loaded.model), memory_peak_bytes=peak_memory_bytes(),
    )  # fmt: skip
