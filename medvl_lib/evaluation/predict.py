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
from medvl_lib.images import ImageStore
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
    directory: Path, *, weights: Sequence[Weights], spec: ModelSpec, evaluation: EvaluationSpec, chat: Path, images: ImageStore,
    profile: Profile, report: Report,
) -> dict[str, Fact]:  # fmt: skip
    """Let every variant and floor answer every chosen pair."""
    conversations = list(chosen(chat, evaluation))
    wanted = {conversation.pair_id for conversation in conversations}
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
                for prediction in answers(loaded, item.variant, condition, conversations, evaluation, images, profile):
                    predictions.write(prediction)
                    report({"variant": item.variant, "condition": condition, "num_answers": predictions.num_rows})
            measurements.append(_measure(item, loaded, spec))
            del loaded
    write_table(directory / VARIANTS, VariantMeasurement, measurements)
    return {"num_predictions": predictions.num_rows, "num_pairs": len(held_out), "num_variants": len(measurements)}


def chosen(chat: Path, evaluation: EvaluationSpec) -> Iterator[Conversation]:
    """The conversations to answer: all of the evaluated splits, or per dataset and split the first by a seeded hash of their ids."""
    for split in evaluation.splits:
        by_dataset: dict[str, list[Conversation]] = defaultdict(list)
        for conversation in read_conversations(conversations_path(chat, split)):
            by_dataset[conversation.pair_id.split("/", 1)[0]].append(conversation)
        for items in by_dataset.values():
            ordered = sorted(items, key=lambda item: digest([evaluation.seed, item.pair_id]))
            yield from ordered[: evaluation.max_pairs_per_dataset or None]


def answers(
    loaded: Loaded, variant: Variant, condition: Condition, conversations: Sequence[Conversation], evaluation: EvaluationSpec,
    images: ImageStore, profile: Profile,
) -> Iterator[Prediction]:  # fmt: skip
    """Greedy answers in batches, after a short one that warms caches and is discarded."""
    warm_up = replace(evaluation, max_answer_tokens=WARM_UP_TOKENS)
    list(_answer(loaded, variant, condition, conversations[:1], warm_up, images, profile))
    for start in range(0, len(conversations), profile.prediction_batch):
        yield from _answer(loaded, variant, condition, conversations[start : start + profile.prediction_batch], evaluation, images, profile)


def _answer(
    loaded: Loaded, variant: Variant, condition: Condition, conversations: Sequence[Conversation], evaluation: EvaluationSpec,
    images: ImageStore, profile: Profile,
) -> Iterable[Prediction]:  # fmt: skip
    started = time.perf_counter()
    reader = Reader(processor=loaded.processor, prompts=loaded.prompts, images=images)
    batch = prompt_batch(reader, conversations, is_blank=condition == "blank_image")
    tensors = {name: tensor.to(profile.device) for name, tensor in batch.items()}
    tokenizer = loaded.processor.tokenizer
    autocast = torch.autocast(profile.device.split(":")[0], torch.bfloat16) if profile.weights_dtype == "bfloat16" else nullcontext()
    with torch.inference_mode(), autocast:
        output_BT = loaded.model.generate(  # noqa: N806 (shape suffix)
            **tensors, max_new_tokens=evaluation.max_answer_tokens, do_sample=False, num_beams=1, use_cache=True,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
    if profile.device.startswith("cuda"):
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - started) / len(conversations)
    answers_BT = output_BT[:, batch["input_ids"].shape[1] :]  # noqa: N806
    for row, conversation in enumerate(conversations):
        ids = answers_BT[row].tolist()
        is_cut = tokenizer.eos_token_id not in ids
        length = len(ids) if is_cut else ids.index(tokenizer.eos_token_id) + 1
        yield Prediction(
            pair_id=conversation.pair_id, variant=variant, condition=condition,
            answer=tokenizer.decode(ids[:length], skip_special_tokens=True),
            num_prompt_tokens=int(batch["attention_mask"][row].sum()), num_answer_tokens=length, is_cut=is_cut, latency_seconds=seconds,
        )  # fmt: skip


def _measure(item: Weights, loaded: Loaded, spec: ModelSpec) -> VariantMeasurement:
    total, quantized = num_parameters(loaded.model)
    model = f"{spec.hub_id}@{spec.revision}" if spec.revision else spec.hub_id
    return VariantMeasurement(
        variant=item.variant, model=model, weights_data_version=item.data_version,
        precision=loaded.precision, num_parameters=total, num_quantized_parameters=quantized, load_seconds=loaded.load_seconds,
        memory_after_load_bytes=resident_bytes(loaded.model), memory_peak_bytes=peak_memory_bytes(),
    )  # fmt: skip
