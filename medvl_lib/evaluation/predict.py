"""Predictions: what each variant says to each held-out pair, all by one process.

In: the chat directory, the verified weights, an adapter, the pictures, and the audit's count of each question's tokens. Out:
``predictions.parquet`` with the text that came out, ``variants.parquet`` with what each variant needs when it is alone, and the references
they will be scored against. Variants that fit into memory together answer in turns, batch by batch: a machine that gets warm or busy slows
all of them down alike. Weights that several variants stand on are loaded once. Scoring does not belong here.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from types import MappingProxyType

from medvl_lib.audit import AUDIT
from medvl_lib.chat import Conversation, conversations_path, read_conversations
from medvl_lib.evaluation.answering import Speaker, Weights, batches
from medvl_lib.evaluation.floors import floor_predictions
from medvl_lib.evaluation.footprint import Probe, measure_all
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
from medvl_lib.evaluation.spec import EvaluationSpec, first_asked
from medvl_lib.hardware import Profile
from medvl_lib.images import Pictures
from medvl_lib.models.loading import Loaded, attach, give_memory_back, load
from medvl_lib.models.spec import ModelSpec
from medvl_lib.models.weights import held_bytes
from medvl_lib.parts import Part
from medvl_lib.progress import REPORT_SECONDS, Report, so_far
from medvl_lib.provenance import Fact
from medvl_lib.retrieved_cases import all_with_cases, prefaces
from medvl_lib.rules import stream
from medvl_lib.tables import TableWriter, read_table, write_table

WHOLE = Part(number=0, of=1)
SHARE_FOR_WEIGHTS = 0.5  # of the memory that a profile grants: the rest is for the answers of a batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """What answers, what is asked, and on what."""

    spec: ModelSpec
    evaluation: EvaluationSpec
    images: Pictures
    profile: Profile
    groups: Sequence[Sequence[Conversation]]
    """The conversations to answer, a list for each dataset and split."""
    controlled: Sequence[Variant]
    """Who is asked under the evaluation's controls too."""
    prefaces: Mapping[str, str]
    """Pair -> the similar cases that stand before its question under ``retrieved_cases``; empty where this is not asked."""
    subjects: Mapping[str, str]
    """Pair -> its patient or document."""

    def under(self, condition: Condition) -> Sequence[Sequence[Conversation]]:
        """The conversations as a control asks them; what is done to single pictures is ``batches``' work."""
        if condition == "shuffled_image":
            return shuffled(self.groups, self.subjects)
        return [all_with_cases(group, self.prefaces) for group in self.groups] if condition == "retrieved_cases" else self.groups

    def num_answers(self, variant: Variant) -> int:
        """How many answers a variant gives: as it is, and under each control that it is asked under."""
        asked = [self.groups, *(self.under(condition) for condition in self.evaluation.controls if variant in self.controlled)]
        return sum(len(group) for groups in asked for group in groups)


def write_predictions(
    directory: Path, *, weights: Sequence[Weights], controlled: Sequence[Variant], spec: ModelSpec, evaluation: EvaluationSpec, chat: Path,
    audit: Path, images: Pictures, profile: Profile, report: Report, cases: Path | None = None, shards: Sequence[Path] = (),
) -> dict[str, Fact]:  # fmt: skip
    """Let every variant and floor answer every chosen pair, and those that are ``controlled`` also under the evaluation's controls.

    ``cases`` are the similar cases of each question, where the evaluation asks with them; ``shards`` are directories of ``write_shard``,
    where all answers have been given already.
    """
    references = list(read_table(chat / REFERENCES, Reference))
    panel = _panel(references, controlled, spec, evaluation, chat, images, profile, cases)
    wanted = {conversation.pair_id for group in panel.groups for conversation in group}
    held_out = [reference for reference in references if reference.pair_id in wanted]
    training = [reference for reference in references if reference.split == "train"]
    write_table(directory / REFERENCES, Reference, held_out)
    rounds = list(in_rounds(weights, profile))
    write_table(directory / VARIANTS, VariantMeasurement, _measurements(rounds, panel, longest(panel, audit), report))
    with TableWriter(directory / PREDICTIONS, Prediction) as predictions:
        for prediction in floor_predictions(training, held_out, evaluation.seed):
            predictions.write(prediction)
        for shard in shards:
            for prediction in read_table(shard / PREDICTIONS, Prediction):
                predictions.write(prediction)
        if not shards:
            _write_answers(predictions, rounds, panel, report)
    told = {"num_shards": len(shards)} if shards else {}
    return {"num_predictions": predictions.num_rows, "num_pairs": len(held_out), "num_variants": len(weights), **told}


def write_shard(
    directory: Path, part: Part, *, weights: Sequence[Weights], controlled: Sequence[Variant], spec: ModelSpec, evaluation: EvaluationSpec,
    chat: Path, images: Pictures, profile: Profile, report: Report, cases: Path | None = None,
) -> None:  # fmt: skip
    """Write the answers to every so many-th batch, of every variant and under every control: the same batches as if one gave them all."""
    panel = _panel(list(read_table(chat / REFERENCES, Reference)), controlled, spec, evaluation, chat, images, profile, cases)
    with TableWriter(directory / PREDICTIONS, Prediction) as predictions:
        _write_answers(predictions, list(in_rounds(weights, profile)), panel, report, part)


def _panel(
    references: Sequence[Reference], controlled: Sequence[Variant], spec: ModelSpec, evaluation: EvaluationSpec, chat: Path,
    images: Pictures, profile: Profile, cases: Path | None,
) -> Panel:  # fmt: skip
    return Panel(
        spec=spec, evaluation=evaluation, images=images, profile=profile, groups=list(parts(chat, evaluation)), controlled=controlled,
        prefaces=prefaces(cases) if cases is not None else {},
        subjects={reference.pair_id: f"{reference.dataset}/{reference.group_id}" for reference in references},
    )  # fmt: skip


def _write_answers(predictions: TableWriter, rounds: Sequence[Sequence[Weights]], panel: Panel, report: Report, part: Part = WHOLE) -> None:
    began, reported, number = time.monotonic(), 0.0, 0
    in_all = None if part.of > 1 else sum(panel.num_answers(item.variant) for group in rounds for item in group)
    for group in rounds:
        give_memory_back(panel.profile)  # what the round before held
        for prediction in answers_in_turns(group, panel, part):
            predictions.write(prediction)
            number += 1
            if (now := time.monotonic()) - reported > REPORT_SECONDS:
                reported = now
                report({"variant": prediction.variant, "condition": prediction.condition, **so_far("answers", number, now - began, in_all)})


# -- what is asked -----------------------------------------------------------------------------------------------------
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
            yield first_asked(items, evaluation, lambda item: item.pair_id)


def shuffled(groups: Sequence[Sequence[Conversation]], subjects: Mapping[str, str] = MappingProxyType({})) -> list[list[Conversation]]:
    """Each conversation with pictures of another one, none of them its own; nobody where one of them has every picture that there is.

    They are those of the next one that has as many, of another patient (``subjects``: pair -> patient) where there is one; or else of the
    next one that comes near to that, repeated or cut to as many as are asked about, so that every pair is asked.
    """
    shown = {item.image_ids: subjects.get(item.pair_id) for group in groups for item in group}
    following = {own: _of_another(own, place, list(shown.items())) for place, own in enumerate(shown)}
    if any(len(own) != len(others) for own, others in following.items()):
        return [[] for _ in groups]
    return [[replace(item, image_ids=following[item.image_ids]) for item in group] for group in groups]


def _of_another(own: tuple[str, ...], place: int, shown: Sequence[tuple[tuple[str, ...], str | None]]) -> tuple[str, ...]:
    """As many pictures as ``own`` has, of those that come after it in the circle; none where there are no others."""

    def distance(other: tuple[tuple[str, ...], str | None]) -> tuple[bool, bool]:
        return len(other[0]) != len(own), subject is not None and other[1] == subject

    _, subject = shown[place]
    circle = (shown[(place + step) % len(shown)] for step in range(1, len(shown)))
    strange = ((tuple(image for image in images if image not in own), other) for images, other in circle)
    best: tuple[tuple[str, ...], str | None] = (), None
    for candidate in strange:
        if candidate[0] and (not best[0] or distance(candidate) < distance(best)):
            best = candidate
        if best[0] and not any(distance(best)):
            break
    return tuple(islice(cycle(best[0]), len(own)))


# -- who answers, and in which order -----------------------------------------------------------------------------------
def in_rounds(weights: Sequence[Weights], profile: Profile) -> Iterator[list[Weights]]:
    """The variants, as many together as the profile's memory holds; each directory of weights counts once."""
    most = profile.memory_budget_bytes * (1 - profile.memory_margin_share) * SHARE_FOR_WEIGHTS
    group: list[Weights] = []
    for item in weights:
        directories = {other.directory for other in group}
        held = sum(held_bytes(directory, profile.weights_dtype) for directory in {*directories, item.directory})
        if group and item.directory not in directories and 0 < most < held:
            yield group
            group = []
        group.append(item)
    if group:
        yield group


def _num_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))


def answers_in_turns(weights: Sequence[Weights], panel: Panel, part: Part = WHOLE) -> Iterator[Prediction]:
    """What these variants say: as it is in turns, each batch begun by another one; then the controls. Of a part, to its batches alone."""
    speakers = list(_speakers(weights, panel))
    queue = list(batches(panel.groups, panel.profile.prediction_batch))
    for speaker in speakers:
        for batch in queue[:1]:
            speaker.warm_up(batch)
    for batch_id, batch in islice(enumerate(queue), part.number, None, part.of):
        first = batch_id % len(speakers)
        for speaker in (*speakers[first:], *speakers[:first]):
            yield from speaker.answer(batch, batch_id)
    for speaker in speakers:
        for condition in panel.evaluation.controls if speaker.variant in panel.controlled else ():
            yield from replace(speaker, condition=condition).answers(panel.under(condition), part)


def _speakers(weights: Sequence[Weights], panel: Panel) -> Iterator[Speaker]:
    """Each directory is loaded once, with every adapter that stands on it."""
    loaded: dict[Path, Loaded] = {}
    for directory in dict.fromkeys(item.directory for item in weights):
        adapters = {item.variant: item.adapter for item in weights if item.directory == directory and item.adapter is not None}
        loaded[directory] = attach(load(directory, panel.spec, panel.profile), adapters)
    as_is: Condition = "as_is"
    for item in weights:
        yield Speaker(
            variant=item.variant, condition=as_is, loaded=loaded[item.directory], evaluation=panel.evaluation, images=panel.images,
            profile=panel.profile, adapter=None if item.adapter is None else item.variant,
        )  # fmt: skip


# -- what they need ----------------------------------------------------------------------------------------------------
def longest(panel: Panel, audit: Path) -> list[Conversation]:
    """A full batch of the questions with the most tokens, pictures included."""
    lengths = dict(stream("select pair_id, num_prompt_tokens from read_parquet($audit)", audit=audit / AUDIT))
    asked = [conversation for group in panel.groups for conversation in group]
    return sorted(asked, key=lambda item: (-lengths[item.pair_id], item.pair_id))[: panel.profile.prediction_batch]


def _measurements(
    rounds: Sequence[Sequence[Weights]], panel: Panel, conversations: Sequence[Conversation], report: Report
) -> Iterator[VariantMeasurement]:
    probe = Probe(
        spec=panel.spec, evaluation=panel.evaluation, profile=panel.profile, images=panel.images, conversations=conversations
    )  # fmt: skip
    weights = [item for group in rounds for item in group]
    places = {item.variant: number for number, group in enumerate(rounds) for item in group}
    plain = {item.directory: item.variant for item in weights if item.adapter is None}
    for item, footprint in measure_all(weights, probe):
        report({"variant": item.variant, "load_seconds": footprint.load_seconds, "memory_bytes": footprint.memory_after_load_bytes})
        yield VariantMeasurement(
            **asdict(footprint), variant=item.variant, model=_model(item, panel.spec), weights_data_version=item.data_version,
            adapter_bytes=None if item.adapter is None else _num_bytes(item.adapter),
            stands_on=None if item.adapter is None else plain.get(item.directory), round=places[item.variant],
        )  # fmt: skip


def _model(item: Weights, spec: ModelSpec) -> str:
    return f"{spec.hub_id}@{spec.revision or item.data_version}"  # weights without a commit are called by their contents
